"""Localizing among several maps, of which the robot is in one at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from pixloc_ros.errors import InputError
from pixloc_ros.features import FeatureNetwork
from pixloc_ros.localization.localizer import Localizer, share
from pixloc_ros.localization.options import LocalizerOptions
from pixloc_ros.localization.result import LocalizationResult, Prior, Refusal, Status
from pixloc_ros.localization.views import Query, View
from pixloc_ros.mapping import SUFFIX, MapError, PixMap
from pixloc_ros.sensors.frames import frame_name

FRAMES = "frames.yaml"
"""In a folder of maps: the frame of each, as `FILE: FRAME`."""

TRIED = 3
"""Maps that are searched for an image: those whose images look most like it."""

RIVAL = 0.6
"""Share of the best answer's matches from which on another map's answer is as good."""


@dataclass(frozen=True)
class Submap:
    """One map. name: of its file, without suffix. frame: of its coordinates."""

    name: str
    frame: str
    localizer: Localizer


class MapSet:
    """One map file, or a folder of them, and a localizer in each.

    Sites may share a frame, as floors of one building; then a prior holds in all of them.
    Use as a context manager, or `close` it. Raises InputError where a map cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        network: FeatureNetwork,
        options: LocalizerOptions | None = None,
        cache_mb: float = 512.0,
        frame: str = "map",
    ) -> None:
        self.path = Path(path)
        files = map_files(self.path)
        frames = _frames(self.path, files)
        maps: list[PixMap] = []
        try:
            for file in files:
                maps.append(PixMap(file))
            made = _localizers(maps, network, options, cache_mb)
        except Exception:
            for pixmap in maps:
                pixmap.close()
            raise
        self.submaps = tuple(
            Submap(m.path.name.removesuffix(SUFFIX), frames.get(m.path.name, frame), made[m.path])
            for m in maps
        )
        self.submap = self.submaps[0]

    def move(self, network: FeatureNetwork) -> None:
        """Go on with the same network on another device."""
        first = self.submap.localizer
        maps = [submap.localizer.map for submap in self.submaps]
        made = _localizers(maps, network, first.options, first.cache_mb)
        place = self.submaps.index(self.submap)
        self.submaps = tuple(
            replace(submap, localizer=made[submap.localizer.map.path]) for submap in self.submaps
        )
        self.submap = self.submaps[place]

    @property
    def references(self) -> int:
        return sum(len(submap.localizer.map) for submap in self.submaps)

    @property
    def points(self) -> int:
        return sum(submap.localizer.map.point_count for submap in self.submaps)

    @property
    def frames(self) -> frozenset[str]:
        return frozenset(submap.frame for submap in self.submaps)

    def choose(self) -> list[str]:
        """As `Localizer.choose`, in all maps."""
        chosen = [words for submap in self.submaps for words in submap.localizer.choose()]
        return list(dict.fromkeys(chosen))

    def warm_up(self) -> list[str]:
        """As `Localizer.warm_up`, in all maps."""
        chosen = self.choose()
        self.submap.localizer.warm_up()
        return chosen

    def localize_views(
        self,
        views: Sequence[View],
        prior: Prior | None = None,
        frame: str = "",
        trace: bool = False,
    ) -> LocalizationResult:
        """As `Localizer.localize_views`; the answer says in which map. `submap` is then that one.

        trace: have the answer tell every step, where there is one map only.

        frame: of the prior. Without a prior the maps that look most like it are searched; where
        two of them answer alike, the answer is rejected.
        """
        if len(self.submaps) == 1:
            submap = self.submaps[0]
            localizer = submap.localizer.traced() if trace else submap.localizer
            return _in(submap, localizer.localize_views(views, prior))
        begun = time.perf_counter()
        try:
            queries = self.submap.localizer.extract_features(views)
        except Refusal as refusal:
            return LocalizationResult(refusal.status, str(refusal))
        seen = 1e3 * (time.perf_counter() - begun)
        if prior is not None:
            answer = self._from_prior(views, queries, prior, frame)
        else:
            answer = self._search(views, queries)
        answer.timings_ms["network"] = seen
        answer.timings_ms["total"] = 1e3 * (time.perf_counter() - begun)
        return answer

    def _from_prior(
        self, views: Sequence[View], queries: Sequence[Query], prior: Prior, frame: str
    ) -> LocalizationResult:
        """In the map where the robot was, or another of the same frame; then by a search there."""
        submaps = [submap for submap in self.submaps if not frame or submap.frame == frame]
        submaps.sort(key=lambda submap: submap is not self.submap)
        for submap in submaps:
            answer = self._ask(submap, views, queries, prior, search=False)
            if answer.ok:
                self.submap = submap
                return answer
        submap = submaps[0] if submaps else self.submap
        answer = self._ask(submap, views, queries, prior)
        if answer.ok:
            self.submap = submap
        return answer

    def _search(self, views: Sequence[View], queries: Sequence[Query]) -> LocalizationResult:
        ranked = sorted(self.submaps, key=lambda submap: -_likeness(submap, queries))
        answers = [(submap, self._ask(submap, views, queries, None)) for submap in ranked[:TRIED]]
        believed = sorted(
            ((submap, answer) for submap, answer in answers if answer.ok),
            key=lambda entry: -entry[1].statistics.matches,
        )
        if not believed:
            return answers[0][1]
        (submap, best), *others = believed
        for rival, other in others:
            if other.statistics.matches >= RIVAL * best.statistics.matches:
                reason = f"ambiguous: it is in {submap.name} as well as in {rival.name}"
                return replace(best, status=Status.REJECTED, reason=reason)
        self.submap = submap
        return best

    def _ask(
        self,
        submap: Submap,
        views: Sequence[View],
        queries: Sequence[Query],
        prior: Prior | None,
        search: bool = True,
    ) -> LocalizationResult:
        same = submap.localizer.extract is self.submap.localizer.extract
        known = queries if same else None  # other levels of the same network
        return _in(
            submap, submap.localizer.localize_views(views, prior, search=search, queries=known)
        )

    def close(self) -> None:
        for submap in self.submaps:
            submap.localizer.map.close()

    def __enter__(self) -> MapSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _localizers(
    maps: Sequence[PixMap],
    network: FeatureNetwork,
    options: LocalizerOptions | None,
    cache_mb: float,
) -> dict[Path, Localizer]:
    """One a map; those of the same levels share extractor and memory."""
    options = options or LocalizerOptions()
    made = {}
    for header in {pixmap.header for pixmap in maps}:
        alike = [pixmap for pixmap in maps if pixmap.header == header]
        for pixmap in alike:
            pixmap.require(network)
        together = share(alike, network, options, cache_mb)
        for pixmap, shared in zip(alike, together, strict=True):
            made[pixmap.path] = Localizer(pixmap, network, options, cache_mb, shared)
    return made


def require_maps(
    path: str, architecture: str, weights_hash: str, frame: str, robot_frames: Sequence[str]
) -> None:
    """Raise InputError where maps cannot be served by a network of which this is known.

    frame: of maps without one in frames.yaml. robot_frames: which no map may be in.
    """
    files = map_files(Path(path))
    frames = _frames(Path(path), files)
    for file in files:
        with PixMap(file) as pixmap:
            pixmap.require_weights(architecture, weights_hash)
    require_own_frames(path, {frames.get(file.name, frame) for file in files}, robot_frames)


def require_own_frames(path: str, frames: Collection[str], robot_frames: Sequence[str]) -> None:
    """Raise InputError where a map is in a frame of the robot's."""
    for own in robot_frames:
        if own in frames:
            raise InputError(f"{path}: frame {own} is the robot's, not a map's")


def map_files(path: Path) -> list[Path]:
    """The map, or the maps of a folder by name. Raises MapError where there is none."""
    if not path.is_dir():
        return [path]
    files = sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        raise MapError(f"{path}: a folder without any map (*{SUFFIX})")
    return files


def _frames(path: Path, files: Sequence[Path]) -> dict[str, str]:
    listed = path / FRAMES
    if not path.is_dir() or not listed.is_file():
        return {}
    try:
        content = yaml.safe_load(listed.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise MapError(f"{listed}: not YAML ({str(error).splitlines()[0]})") from None
    known = {file.name for file in files}
    if not isinstance(content, dict):
        raise MapError(f"{listed}: expected lines 'FILE{SUFFIX}: FRAME'")
    for name, frame in content.items():
        if name not in known:
            raise MapError(f"{listed}: {name}: no such map in {path}")
        if not isinstance(frame, str) or not frame_name(frame):
            raise MapError(f"{listed}: {name}: {frame!r} is no name of a frame")
    return {name: frame_name(frame) for name, frame in content.items()}


def _in(submap: Submap, answer: LocalizationResult) -> LocalizationResult:
    return replace(answer, map=submap.name, frame=submap.frame)


def _likeness(submap: Submap, queries: Sequence[Query]) -> float:
    """How much the most similar references of a map look like what is seen, in any view."""
    best = 0.0
    for query in queries:
        localizer = submap.localizer
        _, cosines = localizer.candidates.index.search(localizer.map.describe(query.pyramid), 3)
        best = max(best, sum(cosines) / len(cosines))
    return best
