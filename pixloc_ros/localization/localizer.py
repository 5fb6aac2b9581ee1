"""Localizing one query image against a map."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from pixloc_ros.alignment import LMOptions
from pixloc_ros.errors import InputError, require_range
from pixloc_ros.features import RUNTIMES, Extractor, FeatureNetwork, ImageError, check_image
from pixloc_ros.geometry import QUARTER_TURN, Camera, Pose, RobustKernel
from pixloc_ros.localization.camera_doubt import CameraDoubt, camera_doubts
from pixloc_ros.localization.gating import GateOptions
from pixloc_ros.localization.judging import Judge
from pixloc_ros.localization.matching import (
    MIN_INLIERS,
    MatchedView,
    Matcher,
    Matches,
    poses_of_matches,
)
from pixloc_ros.localization.patches import PatchFit, PatchRefinement
from pixloc_ros.localization.products import PRODUCTS
from pixloc_ros.localization.refinement import Query, Refinement, Start
from pixloc_ros.localization.result import LocalizationResult, Prior, Refusal, Status
from pixloc_ros.mapping import FeatureStore, PixMap
from pixloc_ros.retrieval import VisibilityIndex, open_index


@dataclass
class LocalizerOptions:
    """How a query is localized. Angles in degrees, sizes in points.

    runtime, product: what runs the network on a processor (`features.RUNTIMES`), and what compares
    points (`products.PRODUCTS`); auto has `warm_up` take the fastest.

    references: whose points are matched or aligned with. match_points: most points that are
    matched. starts: poses of matches that are aligned. points: observations used for alignment.
    patches: observations whose grey values are looked for at the end; 0 looks for none. turns:
    whether an image that is not found is tried again on its sides and upside down.
    hypotheses: of a vague prior. kernel_alpha, kernel_scale: see
    `geometry.RobustKernel`.
    """

    references: int = 10
    match_points: int = 4000
    starts: int = 2
    hypotheses: int = 4
    points: int = 1200
    patches: int = 4000
    turns: bool = True
    kernel_alpha: float = 0.0
    kernel_scale: float = 0.1
    runtime: str = "auto"
    product: str = "auto"
    lm: LMOptions = field(default_factory=LMOptions)
    gate: GateOptions = field(default_factory=GateOptions)

    def __post_init__(self) -> None:
        require_range(self, 1, 1000, "references", "starts", "hypotheses")
        require_range(self, 10, 100_000, "match_points", "points")
        require_range(self, 0, 100_000, "patches")
        require_range(self, -1000, 2, "kernel_alpha")
        require_range(self, 1e-6, 1e6, "kernel_scale")
        for name, known in (("runtime", RUNTIMES), ("product", PRODUCTS)):
            value = getattr(self, name)
            if value not in ("auto", *known):
                raise InputError(f"{name} {value!r}: one of {', '.join(('auto', *known))}")


MOST_VIEWS = 8
"""Cameras whose images of a moment are aligned together."""

SETTLING = 4
"""Times, at most, that patches are looked for until a pose with another camera has settled."""

VAGUE_PX = 50.0
"""Standard deviation of a prior, in pixels, from which on others are drawn around it: where
alignment from one start begins to fail (doc/starts.md)."""


def _is_pose(pose: Pose) -> bool:
    return not pose.shape and bool(pose.matrix().isfinite().all())


class _Stopwatch:
    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.ms[stage] = self.ms.get(stage, 0.0) + 1e3 * (time.perf_counter() - begun)


@dataclass(frozen=True)
class View:
    """One camera's image of a moment.

    image: (H, W) or (H, W, 3) RGB uint8. camera: its intrinsics, batch shape (). cam_from_rig:
    where it is on the rig, whose frame is that of the first view's camera.
    """

    image: np.ndarray
    camera: Camera
    cam_from_rig: Pose = field(default_factory=lambda: Pose.identity(dtype=torch.float64))


def share(
    maps: Sequence[PixMap], network: FeatureNetwork, options: LocalizerOptions, cache_mb: float
) -> list[tuple[Extractor, FeatureStore]]:
    """What localizers in each of several maps of the same levels need, in memory for one."""
    extract = Extractor(network, maps[0].header.levels)
    together = MOST_VIEWS * options.references
    first = FeatureStore(maps[0], network.device, cache_mb, together, maps[1:])
    return [(extract, first.beside(pixmap)) for pixmap in maps]


class Localizer:
    """Localizes images against one map with the network that filled it.

    cache_mb: memory for features of the map on the network's device. shared: what localizers in
    several maps of the same levels have in common.
    Raises MapError when the network is another one. Not thread-safe: one worker uses it.
    """

    def __init__(
        self,
        pixmap: PixMap,
        network: FeatureNetwork,
        options: LocalizerOptions | None = None,
        cache_mb: float = 512.0,
        shared: tuple[Extractor, FeatureStore] | None = None,
    ) -> None:
        pixmap.require(network)
        self.map, self.network, self.cache_mb = pixmap, network, cache_mb
        self.options = options or LocalizerOptions()
        self.index = open_index(pixmap)
        self.visibility = VisibilityIndex(pixmap)
        self._without: frozenset[int] = frozenset()
        self._tracing = False
        options = self.options
        self.extract, self.store = shared or share([pixmap], network, options, cache_mb)[0]
        self._refinement = Refinement(
            pixmap,
            network,
            self.store,
            options.points,
            RobustKernel(options.kernel_alpha, options.kernel_scale),
            options.lm,
        )
        self._patches = PatchRefinement(pixmap, self.store, options.patches)
        self._matcher = Matcher(self.store, len(pixmap), options.match_points)
        self._judge = Judge(pixmap, options.gate, network.sigma_factors)

    def leaving_out(self, references: Collection[int]) -> Localizer:
        """The same without some references, to see how others find what they show."""
        other = copy(self)
        other._without = frozenset(references)
        return other

    def traced(self) -> Localizer:
        """The same, whose answers tell every step; that takes several times as long."""
        other = copy(self)
        other._tracing = True
        return other

    def choose(self) -> list[str]:
        """Take what is fastest on this machine; what that is and why, to be logged.

        Raises InputError where `options.runtime` cannot be used.
        """
        width, height = (int(v) for v in self.map.camera(0).size.tolist())
        network = self.extract.choose(width, height, self.options.runtime)
        product = self._matcher.choose(len(self.map.header.levels) - 1, self.options.product)
        return [
            f"{what}: {choice}"
            for what, choice in (("network", network), ("matching", product))
            if choice is not None
        ]

    def warm_up(self) -> list[str]:
        """As `choose`; then localize a blank image, so that the first real one does not pay for
        first times: kernels are compiled, memory is taken.
        """
        chosen = self.choose()
        camera = self.map.camera(0)
        width, height = (int(v) for v in camera.size.tolist())
        blank = np.zeros((height, width, 3), np.uint8)
        self.localize(blank, camera, Prior(self.map.pose(0)))
        return chosen

    def localize(
        self,
        image: np.ndarray,
        camera: Camera,
        prior: Prior | None = None,
        references: Sequence[str] | None = None,
        search: bool = True,
    ) -> LocalizationResult:
        """Estimate cam_from_map of one image; see `localize_views`."""
        return self.localize_views([View(image, camera)], prior, references, search)

    @torch.no_grad()
    def localize_views(
        self,
        views: Sequence[View],
        prior: Prior | None = None,
        references: Sequence[str] | None = None,
        search: bool = True,
        queries: Sequence[Query] | None = None,
    ) -> LocalizationResult:
        """Estimate cam_from_map of the first view from all views of one moment together.

        prior: start there; where that is refused, match with what it sees and what is retrieved.
        references: use these, best first, instead of the map's own retrieval.
        search: whether to match where the prior is refused. queries: what `extract_features`
        made of the views, where that is known.
        Never raises for what a query holds: the answer says why it failed.
        """
        watch = _Stopwatch()
        begun = time.perf_counter()
        try:
            if prior is not None and not _is_pose(prior.cam_from_map):
                raise Refusal(Status.BAD_INPUT, "the prior pose is a batch, or not finite")
            if queries is None:
                with watch("network"):
                    queries = self.extract_features(views)
            answer = self._localize(watch, queries, prior, references, search)
        except Refusal as refusal:
            answer = LocalizationResult(refusal.status, str(refusal))
        watch.ms["total"] = 1e3 * (time.perf_counter() - begun)
        answer.timings_ms.update(watch.ms)
        return answer

    @torch.no_grad()
    def extract_features(self, views: Sequence[View]) -> list[Query]:
        """What the network sees in the views of a moment. Raises Refusal for bad ones."""
        if not 0 < len(views) <= MOST_VIEWS:
            raise Refusal(Status.BAD_INPUT, f"{len(views)} views, 1 to {MOST_VIEWS} are aligned")
        for view in views:
            self._check(view)
        return [self._query(view) for view in views]

    def _localize(
        self,
        watch: _Stopwatch,
        queries: Sequence[Query],
        prior: Prior | None,
        references: Sequence[str] | None,
        search: bool,
    ) -> LocalizationResult:
        if prior is None:
            nothing: list[list[int]] = [[] for _ in queries]
            try:
                answer = self._search(watch, queries, references, nothing)
            except Refusal as refusal:
                answer = LocalizationResult(refusal.status, str(refusal))
            if answer.ok or len(queries) > 1 or not self.options.turns:
                return answer
            try:
                return self._turned(watch, queries[0], references) or answer
            except Refusal:
                return answer
        expected = prior.cam_from_map.to(torch.float64)
        with watch("references"):
            seen = [self._seen(query, expected) for query in queries]
        try:
            if not any(seen):
                raise Refusal(Status.NO_REFERENCE, "no reference sees what the prior pose sees")
            poses = self._hypotheses(prior, queries[0].camera)
            answer = self._settle(watch, queries, Start(poses, tuple(map(tuple, seen))))
            if answer.ok or not search:
                return answer
            reason = answer.reason
        except Refusal as refusal:
            if not search:
                raise
            reason = str(refusal)
        try:
            answer = self._search(watch, queries, references, seen)
        except Refusal as refusal:
            raise Refusal(refusal.status, f"{refusal}; from the prior: {reason}") from None
        if answer.ok:
            return answer
        return replace(answer, reason=f"{answer.reason}; from the prior: {reason}")

    def _turned(
        self, watch: _Stopwatch, query: Query, references: Sequence[str] | None
    ) -> LocalizationResult | None:
        """The believed answer, if any, for a camera that was held on its side or upside down.

        The image is turned by quarters, as features are those of upright places.
        """
        image, camera, mount = query.image, query.camera, query.cam_from_rig
        quarter = Pose(QUARTER_TURN.double(), torch.zeros(3).double())
        most, best = self.options.gate.matches - 1, None
        for _ in range(3):
            image, camera = np.ascontiguousarray(np.rot90(image)), camera.quarter_turn()
            mount = quarter @ mount
            with watch("network"):
                turned = self._query(View(image, camera, mount))
            with watch("match"):
                candidates = self._candidates(turned, references, [])
                if not candidates:
                    return None
                matches = self._matcher.match(candidates, turned.pyramid)
                view = MatchedView(matches, turned.camera, turned.cam_from_rig)
                _, agreeing = poses_of_matches([view], 1)
            if agreeing and agreeing[0] > most:
                most, best = agreeing[0], turned
        if best is None:
            return None
        answer = self._search(watch, [best], references, [[]])
        return answer if answer.ok and self._is_plain(answer) else None

    def _is_plain(self, answer: LocalizationResult) -> bool:
        """Whether more than usual speaks for an answer, as for one of several that were tried."""
        statistics, gate = answer.statistics, self.options.gate
        if self._patches.wanted():
            return statistics.patch_share >= gate.min_patch_share
        return statistics.matches >= 2 * gate.matches

    def _query(self, view: View) -> Query:
        camera = view.camera.to("cpu", torch.float64)
        pose = view.cam_from_rig.to("cpu", torch.float64)
        return Query(view.image, self.extract(view.image), camera, pose)

    def _seen(self, query: Query, rig_from_map: Pose) -> list[int]:
        """References that cover what a view sees from a pose of the rig."""
        pose = query.cam_from_rig @ rig_from_map
        count = self.options.references
        seen = self.visibility.visible_from(pose, query.camera, count + len(self._without))
        return [r for r in seen if r not in self._without][:count]

    def _hypotheses(self, prior: Prior, camera: Camera) -> Pose:
        """The prior (1,), and where it is vague others (B,) drawn from its covariance."""
        expected = prior.cam_from_map.to(torch.float64)
        if prior.covariance is None or self.options.hypotheses == 1:
            return expected[None]
        covariance = prior.covariance.to(torch.float64)
        turn = covariance[3:, 3:].diagonal().clamp(min=0).sum().sqrt()
        if float(turn * camera.focal.mean()) < VAGUE_PX:
            return expected[None]
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(self.options.hypotheses, 6, generator=generator, dtype=torch.float64)
        drawn[0] = 0.0
        values, axes = torch.linalg.eigh(covariance)
        return expected[None].perturb(drawn * values.clamp(min=0).sqrt() @ axes.T)

    def _search(
        self,
        watch: _Stopwatch,
        queries: Sequence[Query],
        references: Sequence[str] | None,
        expected: Sequence[Sequence[int]],
    ) -> LocalizationResult:
        """From matches with retrieved references, and with those `expected` to be around."""
        with watch("references"):
            candidates = [
                self._candidates(query, references, seen)
                for query, seen in zip(queries, expected, strict=True)
            ]
        answer = self._by_matches(watch, queries, candidates)
        if answer.status is not Status.REJECTED:
            return answer
        # what was retrieved may be a poor choice: the pose knows a better one
        with watch("references"):
            around = [self._seen(query, answer.cam_from_map) for query in queries]
        if all(set(a) <= set(b) for a, b in zip(around, candidates, strict=True)):
            return answer
        try:
            second = self._by_matches(watch, queries, around)
        except Refusal:
            return answer
        return second if second.ok else answer

    def _by_matches(
        self,
        watch: _Stopwatch,
        queries: Sequence[Query],
        candidates: Sequence[Sequence[int]],
    ) -> LocalizationResult:
        """From matches with some references of each view."""
        if not any(candidates):
            raise Refusal(Status.NO_REFERENCE, "the map has no reference to match with")
        with watch("match"):
            matches, starts = self._match(queries, candidates)
        with watch("references"):
            seen = [
                self._seen(query, starts[0]) or (known if matched is not None else [])
                for query, matched, known in zip(queries, matches, candidates, strict=True)
            ]
        return self._settle(watch, queries, Start(starts, tuple(map(tuple, seen)), matches))

    def _candidates(
        self, query: Query, names: Sequence[str] | None, expected: Sequence[int]
    ) -> list[int]:
        count = self.options.references
        retrieved = self._retrieve(self.map.describe(query.pyramid), names)
        return list(dict.fromkeys([*expected[: (count + 1) // 2], *retrieved]))[:count]

    def _settle(
        self, watch: _Stopwatch, queries: Sequence[Query], start: Start
    ) -> LocalizationResult:
        with watch("align"):
            solution = self._refinement.align(queries, start, self._tracing)
        with watch("gate"):
            answer, best = self._judge.choose(solution, queries)
        fit = None
        if self._patches.wanted():
            with watch("patches"):
                sought, fit = self._patches.fit(queries, start.references, answer.cam_from_map)
                answer = self._judge.with_patches(answer, sought, fit)
        with watch("gate"):
            answer = self._judge.judge(answer)
            if answer.ok:
                answer = self._doubted(answer, queries, start, fit)
        if not self._tracing:
            return answer
        trace = self._refinement.trace(solution, best, self._judge.thresholds)
        return replace(answer, trace=trace)

    def _doubted(
        self,
        answer: LocalizationResult,
        queries: Sequence[Query],
        start: Start,
        fit: PatchFit | None,
    ) -> LocalizationResult:
        """The answer, refused where patches agree more with another camera than is said."""
        if not self._patches.wanted():
            return answer
        most, reason = 0 if fit is None else fit.agreeing, ""
        for doubt in camera_doubts(queries, answer.cam_from_map, start.matches, fit):
            agreeing = self._agreeing(doubt, queries, start)
            if agreeing > most:
                most, reason = agreeing, doubt.reason
        return replace(answer, status=Status.REJECTED, reason=reason) if reason else answer

    def _agreeing(self, doubt: CameraDoubt, queries: Sequence[Query], start: Start) -> int:
        """Points whose patches agree with what the camera of a view seems to be."""
        seeming = list(queries)
        seeming[doubt.view] = replace(queries[doubt.view], camera=doubt.camera)
        rig_from_map = queries[doubt.view].cam_from_rig.inverse() @ doubt.cam_from_map
        most = 0
        # the pose comes of matches, and is as exact as they are
        for _ in range(SETTLING):
            _, found = self._patches.fit(seeming, start.references, rig_from_map)
            if found is None or found.agreeing <= most:
                break
            most, rig_from_map = found.agreeing, found.rig_from_map
        return most

    def _check(self, view: View) -> None:
        camera = view.camera
        try:
            image = check_image(view.image)
        except ImageError as error:
            raise Refusal(Status.BAD_INPUT, str(error)) from None
        if camera.shape or not bool((camera.focal > 0).all() & camera.centre.isfinite().all()):
            raise Refusal(Status.BAD_INPUT, "the camera is a batch, or not one at all")
        if not _is_pose(view.cam_from_rig):
            raise Refusal(Status.BAD_INPUT, "the pose on the rig is a batch, or not finite")
        size = (image.shape[1], image.shape[0])
        if tuple(camera.size.tolist()) != size:
            wanted = "x".join(f"{v:g}" for v in camera.size.tolist())
            raise Refusal(
                Status.BAD_INPUT, f"image of {size[0]}x{size[1]} pixels, its camera has {wanted}"
            )

    def _retrieve(self, descriptor: torch.Tensor, names: Sequence[str] | None) -> list[int]:
        if names is None:
            count = self.options.references
            found, _ = self.index.search(descriptor, count + len(self._without))
            return [r for r in found if r not in self._without][:count]
        numbers = [self.map.names.find(name) for name in names]
        known = [number for number in numbers if number is not None]
        if not known:
            raise Refusal(Status.NO_REFERENCE, "none of the given references is in the map")
        return known[: self.options.references]

    def _match(
        self, queries: Sequence[Query], candidates: Sequence[Sequence[int]]
    ) -> tuple[tuple[Matches | None, ...], Pose]:
        """The matches of each view, None of one that has no candidates, and the poses of the rig
        that they agree on, best first.
        """
        matches = tuple(
            self._matcher.match(references, query.pyramid) if references else None
            for query, references in zip(queries, candidates, strict=True)
        )
        views = [
            MatchedView(matched, query.camera, query.cam_from_rig)
            for query, matched in zip(queries, matches, strict=True)
            if matched is not None
        ]
        poses, _ = poses_of_matches(views, self.options.starts)
        if not poses:
            most = sum(len(view.matches.points) for view in views)
            raise Refusal(
                Status.FAILED,
                f"no pose that {MIN_INLIERS} of {most} matches with the retrieved references "
                "agree on",
            )
        return matches, Pose.stack(poses)
