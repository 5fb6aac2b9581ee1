"""Localizing one query image against a map."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from pixloc_ros.alignment import (
    LinearSystem,
    LMOptions,
    LMResult,
    align,
    condition_number,
    learned_damping,
    pose_covariance,
)
from pixloc_ros.errors import require_range
from pixloc_ros.features import (
    FeatureNetwork,
    ImageError,
    ImagePyramid,
    check_image,
    extract_pyramid,
)
from pixloc_ros.geometry import Camera, Pose, RobustKernel
from pixloc_ros.localization.gating import GateOptions, InlierModel, gate
from pixloc_ros.localization.matching import MIN_INLIERS, Matches, match_points, poses_of_matches
from pixloc_ros.localization.observations import Observations, QueryLevels, gather
from pixloc_ros.localization.result import InlierStatistics, LocalizationResult, Prior, Status
from pixloc_ros.mapping import PixMap
from pixloc_ros.retrieval import Covisibility, DescriptorIndex


@dataclass
class LocalizerOptions:
    """How a query is localized. Angles in degrees, sizes in points.

    references: whose points are matched or aligned with. match_points: most points that are
    matched. starts: poses of matches that are aligned. points: observations used for alignment.
    kernel_alpha, kernel_scale: see
    `geometry.RobustKernel`.
    """

    references: int = 10
    match_points: int = 4000
    starts: int = 2
    points: int = 1200
    kernel_alpha: float = 0.0
    kernel_scale: float = 0.1
    lm: LMOptions = field(default_factory=LMOptions)
    gate: GateOptions = field(default_factory=GateOptions)

    def __post_init__(self) -> None:
        require_range(self, 1, 1000, "references", "starts")
        require_range(self, 10, 100_000, "match_points", "points")
        require_range(self, -1000, 2, "kernel_alpha")
        require_range(self, 1e-6, 1e6, "kernel_scale")


class _Refusal(Exception):
    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


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
class _Query:
    """One image: what the network made of it, and its camera (float64)."""

    pyramid: ImagePyramid
    levels: QueryLevels
    camera: Camera


@dataclass(frozen=True)
class _Solution:
    """Aligned hypotheses; `matches` are those that the starts came from, None for a prior's."""

    result: LMResult
    observations: Observations
    references: tuple[int, ...]
    matches: Matches | None


class Localizer:
    """Localizes images against one map with the network that filled it.

    Raises MapError when the network is another one. Not thread-safe: one worker uses it.
    """

    def __init__(
        self, pixmap: PixMap, network: FeatureNetwork, options: LocalizerOptions | None = None
    ) -> None:
        pixmap.require(network)
        self.map, self.network = pixmap, network
        self.options = options or LocalizerOptions()
        self.index = DescriptorIndex(pixmap.descriptors)
        self.covisibility = Covisibility(pixmap.model)
        self._number = {name: i for i, name in enumerate(pixmap.model.names)}
        self._levels = pixmap.header.levels
        self._damping = [
            learned_damping(network.damping_parameters(level.network_level)).detach()
            for level in self._levels
        ]
        self._inliers = InlierModel.of(pixmap.statistics[-1])
        self._kernel = RobustKernel(self.options.kernel_alpha, self.options.kernel_scale)

    def warm_up(self) -> None:
        """Localize a blank image, so that the first real one does not pay for first times."""
        camera = self.map.cameras[0]
        width, height = (int(v) for v in camera.size.tolist())
        self.localize(np.zeros((height, width, 3), np.uint8), camera)

    @torch.no_grad()
    def localize(
        self,
        image: np.ndarray,
        camera: Camera,
        prior: Prior | None = None,
        references: Sequence[str] | None = None,
        search: bool = True,
    ) -> LocalizationResult:
        """Estimate cam_from_map of an image.

        image: (H, W) or (H, W, 3) RGB uint8. camera: its intrinsics, batch shape ().
        prior: start there; where that is refused, match with what it sees and what is retrieved.
        references: use these, best first, instead of the map's own retrieval.
        search: whether to match where the prior is refused.
        Never raises for what a query holds: the answer says why it failed.
        """
        watch = _Stopwatch()
        begun = time.perf_counter()
        try:
            answer = self._localize(watch, image, camera, prior, references, search)
        except _Refusal as refusal:
            answer = LocalizationResult(refusal.status, str(refusal))
        watch.ms["total"] = 1e3 * (time.perf_counter() - begun)
        answer.timings_ms.update(watch.ms)
        return answer

    def _localize(
        self,
        watch: _Stopwatch,
        image: np.ndarray,
        camera: Camera,
        prior: Prior | None,
        references: Sequence[str] | None,
        search: bool,
    ) -> LocalizationResult:
        self._check(image, camera, prior)
        camera = camera.to(torch.float64)
        with watch("network"):
            pyramid = extract_pyramid(self.network, image, self._levels)
            query = _Query(pyramid, QueryLevels.of(pyramid, camera), camera)
        if prior is None:
            return self._search(watch, query, references, [])
        expected = prior.cam_from_map.to(torch.float64)
        with watch("references"):
            seen = self.covisibility.visible_from(expected, camera, self.options.references)
        try:
            if not seen:
                raise _Refusal(Status.NO_REFERENCE, "no reference sees what the prior pose sees")
            answer = self._settle(watch, query, expected[None], seen, None)
            if answer.ok or not search:
                return answer
            reason = answer.reason
        except _Refusal as refusal:
            if not search:
                raise
            reason = str(refusal)
        try:
            answer = self._search(watch, query, references, seen)
        except _Refusal as refusal:
            raise _Refusal(refusal.status, f"{refusal}; from the prior: {reason}") from None
        if answer.ok:
            return answer
        return replace(answer, reason=f"{answer.reason}; from the prior: {reason}")

    def _search(
        self,
        watch: _Stopwatch,
        query: _Query,
        references: Sequence[str] | None,
        expected: Sequence[int],
    ) -> LocalizationResult:
        """From matches with retrieved references, and with those `expected` to be around."""
        with watch("references"):
            count = self.options.references
            retrieved = self._retrieve(query.pyramid.descriptor.cpu(), references)
            joined = [*expected[: (count + 1) // 2], *retrieved]
            candidates = list(dict.fromkeys(joined))[:count]
        with watch("match"):
            matches, starts = self._match(query, candidates)
        with watch("references"):
            chosen = self._covering(starts[0], query.camera, candidates)
        return self._settle(watch, query, starts, chosen, matches)

    def _settle(
        self,
        watch: _Stopwatch,
        query: _Query,
        starts: Pose,
        references: Sequence[int],
        matches: Matches | None,
    ) -> LocalizationResult:
        with watch("align"):
            solution = self._refine(query, starts, references, matches)
        with watch("gate"):
            return self._judge(solution, query.camera)

    def _covering(self, pose: Pose, camera: Camera, retrieved: Sequence[int]) -> list[int]:
        """References that cover the view of a pose, or the largest covisible group retrieved."""
        count = self.options.references
        covering = self.covisibility.visible_from(pose, camera, count)
        return covering or self.covisibility.clusters(retrieved)[0][:count]

    def _check(self, image: np.ndarray, camera: Camera, prior: Prior | None) -> None:
        try:
            image = check_image(image)
        except ImageError as error:
            raise _Refusal(Status.BAD_INPUT, str(error)) from None
        if camera.shape or not bool((camera.focal > 0).all() & camera.centre.isfinite().all()):
            raise _Refusal(Status.BAD_INPUT, "the camera is a batch, or not one at all")
        if prior is not None and (
            prior.cam_from_map.shape or not bool(prior.cam_from_map.matrix().isfinite().all())
        ):
            raise _Refusal(Status.BAD_INPUT, "the prior pose is a batch, or not finite")
        size = (image.shape[1], image.shape[0])
        if tuple(camera.size.tolist()) != size:
            wanted = "x".join(f"{v:g}" for v in camera.size.tolist())
            raise _Refusal(
                Status.BAD_INPUT, f"image of {size[0]}x{size[1]} pixels, its camera has {wanted}"
            )

    def _retrieve(self, descriptor: torch.Tensor, names: Sequence[str] | None) -> list[int]:
        if names is None:
            return self.index.search(descriptor, self.options.references)[0]
        known = [self._number[n] for n in names if n in self._number]
        if not known:
            raise _Refusal(Status.NO_REFERENCE, "none of the given references is in the map")
        return known[: self.options.references]

    def _match(self, query: _Query, references: Sequence[int]) -> tuple[Matches, Pose]:
        """Matches with references, and the poses they agree on, best first: (starts,)."""
        matches = match_points(self.map, references, query.pyramid, self.options.match_points)
        poses, _ = poses_of_matches(matches, query.camera, self.options.starts)
        if not poses:
            raise _Refusal(
                Status.FAILED,
                f"no pose that {MIN_INLIERS} of {len(matches.points)} matches with the retrieved "
                "references agree on",
            )
        return matches, Pose.stack(poses)

    def _refine(
        self, query: _Query, starts: Pose, references: Sequence[int], matches: Matches | None
    ) -> _Solution:
        """Align starts (B,) with references together.

        Matches are as good as the cells they were found in: their poses start there. A prior
        may be far off and goes through the coarser levels first; those can also lead a good one
        astray, so it enters the race anew at each level.
        """
        observations = gather(
            self.map, references, starts, query.camera, self.options.points, self.network.device
        )
        problems = [
            observations.problem(query.levels, level, self._kernel)
            for level in range(len(self._levels))
        ]
        fine = max(len(problems) - 2, 0)
        begin, lm = observations.to_local(starts), self.options.lm
        poses = begin
        for level in range(fine if matches is None else 0):
            moved = align([problems[level]], poses, self._damping[level : level + 1], lm).pose
            poses = Pose.cat([begin, moved])
        result = align(problems[fine:], poses, self._damping[fine:], lm)
        return _Solution(result, observations, tuple(references), matches)

    def _judge(self, solution: _Solution, camera: Camera) -> LocalizationResult:
        """The hypothesis that most points fit, believed or not."""
        result, system = solution.result, solution.result.system
        inlier = (system.squared < self._inliers.threshold) & system.valid
        inliers = torch.where(result.failed, -1, inlier.sum(-1))
        best = int(inliers.argmax())
        if bool(result.failed[best]):
            raise _Refusal(Status.FAILED, "too few points of the map are visible to align with")
        pose = solution.observations.to_map(result.pose[best])
        visible = int(system.valid[best].sum())
        compared = int((solution.observations.confidence[-1] > 0).sum())
        statistics = InlierStatistics(
            points=compared,
            visible=visible / max(compared, 1),
            inliers=int(inliers[best]) / max(visible, 1),
            matches=0 if solution.matches is None else solution.matches.agreeing(pose, camera),
            cost=float(system.cost[best]),
            condition=float(condition_number(system)[best]),
        )
        covariance = pose_covariance(system)[best].cpu()
        reason = gate(statistics, self._inliers, covariance, self.options.gate)
        reason = reason or self._ambiguity(inliers, system, best)
        return LocalizationResult(
            status=Status.REJECTED if reason else Status.SUCCESS,
            reason=reason or "aligned",
            cam_from_map=pose,
            covariance=covariance,
            statistics=statistics,
            references=tuple(self.map.model.names[r] for r in solution.references),
            from_prior=solution.matches is None,
        )

    def _ambiguity(self, inliers: torch.Tensor, system: LinearSystem, best: int) -> str:
        enough = inliers >= inliers[best] * self.options.gate.ambiguity
        for rival in enough.nonzero().flatten().tolist():
            moved = (system.pixels[rival] - system.pixels[best]).norm(dim=-1)
            apart = float(moved[system.valid[best]].median())
            if rival != best and apart > 5.0:
                return f"ambiguous: another pose fits as well, {apart:.0f} cells away"
        return ""
