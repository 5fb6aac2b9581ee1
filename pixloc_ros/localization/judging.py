"""From aligned hypotheses to an answer: which is the best, and is it believed?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from pixloc_ros.alignment import LinearSystem, condition_number, pose_covariance
from pixloc_ros.geometry import Pose
from pixloc_ros.localization.gating import GateOptions, InlierModel, gate
from pixloc_ros.localization.patches import PatchFit
from pixloc_ros.localization.refinement import Solution
from pixloc_ros.localization.result import (
    InlierStatistics,
    LocalizationResult,
    Refusal,
    Reprojections,
    Status,
)
from pixloc_ros.localization.spread import evenness, spread
from pixloc_ros.localization.views import Query
from pixloc_ros.mapping import PixMap

PATCH_FACTORS = (3.3, 3.3)
"""On the standard deviations that patches claim in maps that are not calibrated: errors of the
map's points are shared by neighbours, which the claim does not know. Three of four places have
2.6 to 3.7, whatever is left out of them.
"""


def _six(factors: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(factors, dtype=torch.float64).repeat_interleave(3)


def _angle(here: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Between rays (n, 3), in radians (n,)."""
    return torch.cosine_similarity(here, there, dim=-1).clamp(-1, 1).acos()


class Judge:
    """Judges by what references of one map reach with each other.

    sigma_factors: on the standard deviations of translation and rotation that alignment claims;
    what patches claim has those of the map. thresholds: squared residual of the worst inlier at
    each level.
    """

    def __init__(
        self, pixmap: PixMap, options: GateOptions, sigma_factors: tuple[float, float]
    ) -> None:
        models = [InlierModel.of(statistics) for statistics in pixmap.statistics]
        self.inliers = models[-1]
        self.thresholds = [model.threshold for model in models]
        self._map, self._options = pixmap, options
        self._factors = _six(sigma_factors)
        self._patch_factors = _six(pixmap.calibration or PATCH_FACTORS)

    def choose(
        self, solution: Solution, queries: Sequence[Query]
    ) -> tuple[LocalizationResult, int]:
        """The hypothesis that most points fit, not yet judged, and its number. Refused where
        another one fits as well, or matches speak for another one.
        """
        system, start = solution.system, solution.start
        inlier = (system.squared < self.inliers.threshold) & system.valid
        inliers = torch.where(solution.failed, -1, inlier.sum(-1))
        best = int(inliers.argmax())
        if bool(solution.failed[best]):
            raise Refusal(Status.FAILED, "too few points of the map are visible to align with")
        pose = solution.frame.to_map(solution.poses[best])
        visible = int(system.valid[best].sum())
        share = int(inliers[best]) / max(visible, 1)
        compared = solution.compared
        agreeing, widest = 0, 0.0
        for query, matches in zip(queries, start.matches, strict=bool(start.matches)):
            if matches is not None:
                near = matches.near(query.cam_from_rig @ pose, query.camera)
                agreeing += int(near.sum())
                widest = max(widest, spread(matches.pixels[near], query.camera))
        reprojections = self._reprojections(solution, queries, best)
        sizes = [np.asarray(query.camera.size) for query in queries]
        statistics = InlierStatistics(
            points=compared,
            visible=visible / max(compared, 1),
            inliers=share,
            fit=self.inliers.fit(share),
            matches=agreeing,
            spread=widest,
            view_deg=self._view_deg(solution, pose, inlier[best]),
            evenness=evenness(
                (seen.pixels, seen.residual < 1, size)
                for seen, size in zip(reprojections, sizes, strict=True)
            ),
            shift_px=self._shift(solution, queries, best),
            cost=float(system.cost[best]),
            condition=float(condition_number(system)[best]),
        )
        claimed = pose_covariance(system)[best]
        covariance = claimed * self._factors[:, None] * self._factors
        reason = start.rival or self._ambiguity(inliers, system, best)
        answer = LocalizationResult(
            status=Status.REJECTED if reason else Status.SUCCESS,
            reason=reason or "aligned",
            cam_from_map=pose,
            covariance=covariance,
            statistics=statistics,
            references=tuple(
                dict.fromkeys(self._map.names[r] for seen in start.references for r in seen)
            ),
            from_prior=not start.matches,
            reprojections=reprojections,
        )
        return answer, best

    def with_patches(
        self, answer: LocalizationResult, sought: int, fit: PatchFit | None
    ) -> LocalizationResult:
        """The answer at the pose that patches say, as sure as they are. sought: how many."""
        statistics = replace(answer.statistics, patches_sought=sought)
        if fit is None:
            return replace(answer, statistics=statistics)
        claimed = fit.fit.covariance()
        return replace(
            answer,
            cam_from_map=fit.rig_from_map,
            covariance=claimed * self._patch_factors[:, None] * self._patch_factors,
            statistics=replace(
                statistics,
                patches=fit.agreeing,
                patch_share=fit.share,
                patch_spread=fit.spread,
            ),
        )

    def judge(self, answer: LocalizationResult) -> LocalizationResult:
        """A chosen answer, refused where too little speaks for it."""
        reason = gate(answer.statistics, answer.covariance, self._options)
        return replace(answer, status=Status.REJECTED, reason=reason) if reason else answer

    def _view_deg(self, solution: Solution, rig_from_map: Pose, inlier: torch.Tensor) -> float:
        """Median angle between the rays on which the rig and the references see the inliers."""
        points = torch.cat([o.points for o in solution.observations])[inlier]
        if not len(points):
            return 0.0
        seen_by = np.concatenate([o.reference for o in solution.observations])[inlier.numpy()]
        there = self._centres(seen_by)
        here = points - rig_from_map.inverse().translation
        return math.degrees(float(_angle(here, points - there).median()))

    def _centres(self, references: np.ndarray) -> torch.Tensor:
        used, place = np.unique(references, return_inverse=True)
        poses = Pose.from_quaternion(self._map.quaternion[used], self._map.translation[used])
        return poses.inverse().translation[place]

    def _shift(self, solution: Solution, queries: Sequence[Query], best: int) -> float:
        """Median way of the points of all views, in pixels, from the level before the finest to
        the answer.
        """
        ways = []
        for query, observed in zip(queries, solution.observations, strict=True):
            points = observed.points - solution.frame.origin
            before, after = (
                query.camera.project(
                    (query.cam_from_rig @ pose[best].to(torch.float64)).transform(points)
                )
                for pose in (solution.before, solution.poses)
            )
            ways.append((before[0] - after[0]).norm(dim=-1)[before[1] & after[1]])
        moved = torch.cat(ways)
        return float(moved.median()) if len(moved) else math.inf

    def _reprojections(
        self, solution: Solution, queries: Sequence[Query], best: int
    ) -> tuple[Reprojections, ...]:
        """What the answer rests on, of each view."""
        system = solution.system
        sizes = [len(o) for o in solution.observations]
        parts = zip(
            system.pixels[best].split(sizes),
            system.squared[best].split(sizes),
            system.valid[best].split(sizes),
            strict=True,
        )
        answer = []
        pose = solution.frame.to_map(solution.poses[best])
        for query, seen_there, (pixels, squared, valid) in zip(
            queries, solution.observations, parts, strict=True
        ):
            maps = query.pyramid.levels[-1]
            scale = torch.tensor(maps.scale, dtype=torch.float64)
            seen = (pixels[valid].double() + maps.offset) / scale
            share = squared[valid] / self.inliers.threshold
            points = seen_there.points[valid]
            cam_from_map = query.cam_from_rig @ pose
            seen_by = seen_there.reference[valid.numpy()]
            here = points - cam_from_map.inverse().translation
            there = points - self._centres(seen_by)
            answer.append(
                Reprojections(
                    seen.float().numpy(),
                    share.float().numpy(),
                    seen_there.point[valid.numpy()],
                    seen_by,
                    cam_from_map.transform(points)[:, 2].float().numpy(),
                    torch.cosine_similarity(here, there, dim=-1)
                    .clamp(-1, 1)
                    .acos()
                    .float()
                    .numpy(),
                    (there.norm(dim=-1) / here.norm(dim=-1)).float().numpy(),
                )
            )
        return tuple(answer)

    def _ambiguity(self, inliers: torch.Tensor, system: LinearSystem, best: int) -> str:
        enough = inliers >= inliers[best] * self._options.ambiguity
        for rival in enough.nonzero().flatten().tolist():
            moved = (system.pixels[rival] - system.pixels[best]).norm(dim=-1)
            apart = float(moved[system.valid[best]].median())
            if rival != best and apart > 5.0:
                return f"ambiguous: another pose fits as well, {apart:.0f} cells away"
        return ""
