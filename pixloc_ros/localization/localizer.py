"""Localizing one query image against a map."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace

import numpy as np
import torch

from pixloc_ros.features import Extractor, FeatureNetwork
from pixloc_ros.geometry import QUARTER_TURN, Camera, Pose, RobustKernel
from pixloc_ros.localization.camera_doubt import seeming_camera
from pixloc_ros.localization.candidates import Candidates
from pixloc_ros.localization.gating import InlierModel
from pixloc_ros.localization.judging import Judge
from pixloc_ros.localization.matching import (
    MIN_INLIERS,
    MatchedView,
    Matcher,
    Matches,
    poses_of_matches,
    rival,
)
from pixloc_ros.localization.options import LocalizerOptions
from pixloc_ros.localization.patches import PatchFit, PatchRefinement
from pixloc_ros.localization.refinement import Refinement, Start
from pixloc_ros.localization.result import LocalizationResult, Prior, Refusal, Status
from pixloc_ros.localization.views import MOST_VIEWS, Query, View, is_pose
from pixloc_ros.mapping import FeatureStore, PixMap


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
        options = self.options
        self.candidates = Candidates.of(pixmap, options.references)
        self._tracing = False
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
        other.candidates = self.candidates.leaving_out(references)
        return other

    def traced(self) -> Localizer:
        """The same, whose answers tell every step; that takes several times as long."""
        other = copy(self)
        other._tracing = True
        return other

    def leave_out_points(self, gone: np.ndarray) -> None:
        """Go on without some points of the map, (P,) bool, instead of those left out before."""
        self.store.leave_out(gone)

    def prefer(self, weights: np.ndarray | None) -> None:
        """Go on with some references before others: see `Candidates.weights`."""
        self.candidates = replace(self.candidates, weights=weights)

    @property
    def inliers(self) -> InlierModel:
        """What separates inliers from chance at the finest level of the map."""
        return self._judge.inliers

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
            if prior is not None and not is_pose(prior.cam_from_map):
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
            view.check()
        return [Query.of(view, self.extract) for view in views]

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
            seen = [self.candidates.visible(query, expected) for query in queries]
        try:
            if not any(seen):
                raise Refusal(Status.NO_REFERENCE, "no reference sees what the prior pose sees")
            poses = prior.hypotheses(self.options.hypotheses, queries[0].camera)
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
                turned = Query.of(View(image, camera, mount), self.extract)
            with watch("match"):
                candidates = self.candidates.retrieved(turned, references, [])
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
        return answer if answer.ok and self.is_plain(answer) else None

    def is_plain(self, answer: LocalizationResult) -> bool:
        """Whether more than usual speaks for an answer: for one of several that were tried, or by
        which a map is to be changed.
        """
        statistics, gate = answer.statistics, self.options.gate
        if self._patches.wanted():
            return statistics.patch_share >= gate.min_patch_share
        return statistics.matches >= 2 * gate.matches

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
                self.candidates.retrieved(query, references, seen)
                for query, seen in zip(queries, expected, strict=True)
            ]
        answer = self._by_matches(watch, queries, candidates)
        if answer.status is not Status.REJECTED:
            return answer
        # what was retrieved may be a poor choice: the pose knows a better one
        with watch("references"):
            around = [self.candidates.visible(query, answer.cam_from_map) for query in queries]
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
            matches, starts, other = self._match(queries, candidates)
        with watch("references"):
            seen = [
                self.candidates.visible(query, starts[0]) or (known if matched is not None else [])
                for query, matched, known in zip(queries, matches, candidates, strict=True)
            ]
        start = Start(starts, tuple(map(tuple, seen)), matches, other)
        return self._settle(watch, queries, start)

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
                answer = self._check_camera(answer, queries, start, fit)
        if not self._tracing:
            return answer
        trace = self._refinement.trace(solution, best, self._judge.thresholds)
        return replace(answer, trace=trace)

    def _check_camera(
        self,
        answer: LocalizationResult,
        queries: Sequence[Query],
        start: Start,
        fit: PatchFit | None,
    ) -> LocalizationResult:
        """The answer, refused where patches agree more with another camera than is said."""
        if not self._patches.wanted():
            return answer
        reason = seeming_camera(self._patches, queries, start, answer.cam_from_map, fit)
        return replace(answer, status=Status.REJECTED, reason=reason) if reason else answer

    def _match(
        self, queries: Sequence[Query], candidates: Sequence[Sequence[int]]
    ) -> tuple[tuple[Matches | None, ...], Pose, str]:
        """The matches of each view, None of one that has no candidates, the poses of the rig that
        they agree on, best first, and what `rival` says of them.
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
        poses, agreeing = poses_of_matches(views, self.options.starts)
        if not poses:
            most = sum(len(view.matches.points) for view in views)
            raise Refusal(
                Status.FAILED,
                f"no pose that {MIN_INLIERS} of {most} matches with the retrieved references "
                "agree on",
            )
        return matches, Pose.stack(poses), rival(views, poses, agreeing)
