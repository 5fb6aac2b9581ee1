"""Alignment of one query, of one view or several, with references of a map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from pixloc_ros.alignment import (
    AlignmentProblem,
    LMOptions,
    LMResult,
    RigProblem,
    align,
    learned_damping,
)
from pixloc_ros.features import FeatureNetwork, ImagePyramid
from pixloc_ros.geometry import Camera, Pose, RobustKernel
from pixloc_ros.localization.matching import Matches
from pixloc_ros.localization.observations import Observations, QueryLevels, gather
from pixloc_ros.mapping import PixMap

KEPT = 2
"""Hypotheses that go on from a coarse level to the next, beside the prior itself."""


@dataclass(frozen=True)
class Query:
    """A view and what the network made of it; camera and pose in float64."""

    pyramid: ImagePyramid
    levels: QueryLevels
    camera: Camera
    cam_from_rig: Pose


@dataclass(frozen=True)
class Start:
    """Where alignment begins: poses of the rig (B,), and what they came from.

    references: of each view. matches: None for a prior; `view`: the one that was matched.
    """

    poses: Pose
    references: tuple[tuple[int, ...], ...]
    matches: Matches | None = None
    view: int = 0


@dataclass(frozen=True)
class Solution:
    """Aligned hypotheses, and the observations of each view that they were aligned with.

    before: their poses at the level before the finest.
    """

    result: LMResult
    before: Pose
    observations: tuple[Observations, ...]
    start: Start


class Refinement:
    """Aligns queries with references of one map."""

    def __init__(
        self,
        pixmap: PixMap,
        network: FeatureNetwork,
        points: int,
        kernel: RobustKernel,
        lm: LMOptions,
    ) -> None:
        self._map, self._points, self._kernel, self._lm = pixmap, points, kernel, lm
        self._device = network.device
        self._damping = [
            learned_damping(network.damping_parameters(level.network_level)).detach()
            for level in pixmap.header.levels
        ]

    def align(self, queries: Sequence[Query], start: Start) -> Solution:
        """Align the starts with the references of all views together.

        Matches are as good as the cells they were found in: their poses start there. A prior
        may be far off: it goes through the coarser levels first, with others around it where it
        is vague, and the best go on. Those levels can also lead a good one astray, so it enters
        the race anew at each.
        """
        observations = tuple(
            gather(
                self._map,
                references,
                query.cam_from_rig @ start.poses,
                query.camera,
                self._points // len(queries),
                self._device,
            )
            for query, references in zip(queries, start.references, strict=True)
        )
        problems = [self._problem(queries, observations, i) for i in range(len(self._damping))]
        fine = max(len(problems) - 2, 0)
        begin, lm = observations[0].to_local(start.poses), self._lm
        poses = begin
        for level in range(fine if start.matches is None else 0):
            moved = align([problems[level]], poses, self._damping[level : level + 1], lm)
            cost = torch.where(moved.failed, math.inf, moved.cost)
            poses = Pose.cat([begin[:1], moved.pose[cost.argsort()[:KEPT]]])
        last = len(problems) - 1
        lost = torch.zeros(poses.shape[0], dtype=torch.bool, device=self._device)
        if fine < last:
            coarse = align(problems[fine:last], poses, self._damping[fine:last], lm)
            poses, lost = coarse.pose, coarse.failed
        result = align(problems[last:], poses, self._damping[last:], lm)
        result = replace(result, failed=result.failed | lost)
        return Solution(result, poses, observations, start)

    def _problem(
        self, queries: Sequence[Query], observations: Sequence[Observations], level: int
    ) -> AlignmentProblem | RigProblem:
        if len(queries) == 1:
            return observations[0].problem(queries[0].levels, level, self._kernel)
        first = observations[0]
        parts, poses = [], []
        for query, observed in zip(queries, observations, strict=True):
            parts.append(observed.around(first.origin).problem(query.levels, level, self._kernel))
            poses.append(query.cam_from_rig.to(first.points))
        return RigProblem(tuple(parts), tuple(poses))
