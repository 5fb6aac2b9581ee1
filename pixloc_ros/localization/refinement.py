"""Alignment of one query, of one view or several, with references of a map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.alignment import (
    AlignmentProblem,
    LinearSystem,
    LMOptions,
    LMResult,
    QueryMap,
    RigProblem,
    align,
    learned_damping,
)
from pixloc_ros.alignment.kernels.packing import BLOCK
from pixloc_ros.cuda_graphs import GraphedCallable
from pixloc_ros.features import FeatureNetwork, ImagePyramid, grey_values
from pixloc_ros.geometry import Camera, Lens, Pose, RobustKernel
from pixloc_ros.localization.matching import Matches
from pixloc_ros.localization.observations import LocalFrame, Observations, gather
from pixloc_ros.localization.trace import Trace, Tracer
from pixloc_ros.mapping import FeatureStore, PixMap
from pixloc_ros.mapping.feature_store import take

KEPT = 2
"""Hypotheses that go on from a coarse level to the next, beside the prior itself."""


@dataclass(frozen=True)
class Query:
    """A view and what the network made of it; camera and pose in float64."""

    image: np.ndarray
    pyramid: ImagePyramid
    camera: Camera
    cam_from_rig: Pose

    @cached_property
    def grey(self) -> Tensor:
        """What patches are looked for in: see `features.grey_values`."""
        return torch.from_numpy(grey_values(self.image))


@dataclass(frozen=True)
class Start:
    """Where alignment begins: poses of the rig (B,), and what they came from.

    references: of each view. matches: of each view that was matched; empty for a prior.
    """

    poses: Pose
    references: tuple[tuple[int, ...], ...]
    matches: tuple[Matches | None, ...] = ()


@dataclass(frozen=True)
class Solution:
    """Aligned hypotheses (B,), on the CPU, and the observations of each view.

    poses, before: rig_from_local at the end, and at the level before the finest. system: at
    the end, the points of the views one after the other. compared: observations in all.
    tracer: what it went through, where that was asked for.
    """

    poses: Pose
    before: Pose
    failed: Tensor
    system: LinearSystem
    compared: int
    frame: LocalFrame
    observations: tuple[Observations, ...]
    start: Start
    tracer: Tracer | None = None


@dataclass(frozen=True)
class _Packing:
    """What the numbers of an alignment mean. room: points of a view, padding included. alone:
    whether the poses are those of the only camera.
    """

    hypotheses: int
    views: int
    levels: int
    room: int
    lenses: tuple[Lens, ...]
    from_prior: bool
    alone: bool

    def sizes(self) -> list[int]:
        return [
            self.hypotheses * 12,
            self.views * 12,
            self.levels * self.views * Camera.NUMBERS,
            self.views * self.room * 3,
        ]


def _flat(pose: Pose) -> Tensor:
    return torch.cat([pose.rotation.flatten(-2), pose.translation], -1)


def _pose(numbers: Tensor) -> Pose:
    return Pose(numbers[..., :9].unflatten(-1, (3, 3)), numbers[..., 9:])


def _is_identity(pose: Pose) -> bool:
    return bool(torch.equal(pose.matrix(), torch.eye(4, dtype=pose.dtype)))


def _without_padding(counts: Sequence[int], room: int) -> Tensor:
    """Which of the points of all views are observations, (views * room,)."""
    return (torch.arange(room) < torch.tensor(counts)[:, None]).flatten()


class Refinement:
    """Aligns queries with references of one map."""

    def __init__(
        self,
        pixmap: PixMap,
        network: FeatureNetwork,
        store: FeatureStore,
        points: int,
        kernel: RobustKernel,
        lm: LMOptions,
    ) -> None:
        self._points, self._kernel, self._lm = points, kernel, lm
        self._store, self._device = store, network.device
        self._damping = [
            learned_damping(network.damping_parameters(level.network_level)).detach()
            for level in pixmap.header.levels
        ]
        self._graphed = GraphedCallable(network.device)

    def align(self, queries: Sequence[Query], start: Start, trace: bool = False) -> Solution:
        """Align the starts with the references of all views together.

        trace: keep every step, which takes the slower way that tells of them.
        """
        # those of all views are asked for at once: they stay where they are until the end
        self._store.rows([r for seen in start.references for r in seen])
        observations = tuple(
            gather(
                self._store,
                references,
                query.cam_from_rig @ start.poses,
                query.camera,
                self._points // len(queries),
            )
            for query, references in zip(queries, start.references, strict=True)
        )
        frame = LocalFrame.around(torch.cat([o.points for o in observations]))
        # a GPU repeats what it recorded for one number of points
        most = self._points // len(queries)
        if self._device.type != "cuda":
            most = max(len(o) for o in observations)
        layout = _Packing(
            hypotheses=len(start.poses),
            views=len(queries),
            levels=len(self._damping),
            room=max(-(-most // BLOCK), 1) * BLOCK,
            lenses=tuple(query.camera.lens for query in queries),
            from_prior=not start.matches,
            alone=len(queries) == 1 and _is_identity(queries[0].cam_from_rig),
        )
        points = torch.zeros(layout.views, layout.room, 3)
        rows = torch.full((layout.views, layout.room), -1, dtype=torch.long)
        cameras = []
        for view, observed in enumerate(observations):
            points[view, : len(observed)] = (observed.points - frame.origin).float()
            rows[view, : len(observed)] = observed.rows
        for level in range(layout.levels):
            for query in queries:
                scaled = query.pyramid.levels[level].camera(query.camera)
                cameras.append(scaled.numbers())
        numbers = torch.cat(
            [
                _flat(frame.from_map(start.poses)).flatten(),
                torch.cat([_flat(q.cam_from_rig) for q in queries]).float(),
                torch.cat(cameras).float(),
                points.flatten(),
            ]
        )
        maps = [
            part
            for query in queries
            for level in query.pyramid.levels
            for part in (level.features, level.confidence)
        ]
        tracer = Tracer() if trace else None
        with torch.no_grad():
            if tracer is None:
                (answer,) = self._graphed(self._solve, [numbers, rows, *maps], layout)
            else:
                inputs = (tensor.to(self._device) for tensor in (numbers, rows, *maps))
                (answer,) = self._solve(*inputs, layout, tracer=tracer)
        solution = self._solution(answer.cpu(), layout, frame, observations, start)
        return replace(solution, tracer=tracer)

    def _problem(
        self, level: int, layout: _Packing, parts: Sequence[Tensor], rows: Tensor, maps: Sequence
    ) -> AlignmentProblem | RigProblem:
        _, mounts, cameras, points = parts
        problems = []
        for view in range(layout.views):
            number = level * layout.views + view
            known = rows[view].clamp(min=0)
            confidence = take(self._store.confidence[level], known).float()
            numbers = cameras.view(-1, Camera.NUMBERS)[number]
            at = 2 * (view * layout.levels + level)
            problems.append(
                AlignmentProblem(
                    QueryMap.of(maps[at], maps[at + 1]),
                    Camera.from_numbers(numbers, layout.lenses[view]),
                    points.view(layout.views, 1, layout.room, 3)[view],
                    take(self._store.features[level], known)[None],
                    confidence[None],
                    ((rows[view] >= 0) & (confidence > 0))[None],
                    self._kernel,
                )
            )
        if layout.alone:
            return problems[0]
        return RigProblem(tuple(problems), tuple(map(_pose, mounts.view(-1, 12))))

    def _align(
        self,
        problems: Sequence[AlignmentProblem | RigProblem],
        levels: range,
        poses: Pose,
        tracer: Tracer | None,
        parents: Sequence[int],
    ) -> LMResult:
        chosen = [problems[level] for level in levels]
        damping = [self._damping[level] for level in levels]
        if tracer is None:
            return align(chosen, poses, damping, self._lm)
        return tracer.align(chosen, poses, damping, self._lm, levels, parents)

    def _solve(
        self, numbers: Tensor, rows: Tensor, *more: Any, tracer: Tracer | None = None
    ) -> tuple[Tensor, ...]:
        """All of an alignment in one go, on the device.

        Matches are as good as the cells they were found in: their poses start there. A prior
        may be far off: it goes through the coarser levels first, with others around it where it
        is vague, and the best go on. Those levels can also lead a good one astray, so it enters
        the race anew at each.
        """
        layout: _Packing
        *maps, layout = more
        parts = numbers.split(layout.sizes())
        problems = [
            self._problem(level, layout, parts, rows, maps) for level in range(layout.levels)
        ]
        begin = _pose(parts[0].view(-1, 12))
        fine, last = max(layout.levels - 2, 0), layout.levels - 1
        poses, parents = begin, [-1] * len(begin)
        for level in range(fine if layout.from_prior else 0):
            moved = self._align(problems, range(level, level + 1), poses, tracer, parents)
            cost = torch.where(moved.failed, math.inf, moved.cost)
            best = cost.argsort()[:KEPT]
            poses = Pose.cat([begin[:1], moved.pose[best]])
            if tracer is not None:
                parents = [-1, *best.tolist()]
        lost = torch.zeros_like(poses.translation[:, 0], dtype=torch.bool)
        if fine < last:
            coarse = self._align(problems, range(fine, last), poses, tracer, parents)
            poses, lost, parents = coarse.pose, coarse.failed, list(range(len(coarse.pose)))
        result = self._align(problems, range(last, last + 1), poses, tracer, parents)
        system = result.system
        known = (rows >= 0) & (
            take(self._store.confidence[last], rows.flatten().clamp(min=0)).view_as(rows) > 0
        )
        # one tensor: one word to the host
        answer = [
            _flat(result.pose), _flat(poses), (result.failed | lost)[:, None],
            system.hessian.flatten(1), system.gradient, system.cost[:, None],
            system.pixels.flatten(1), system.squared, system.valid, system.confidence,
            system.weight, known.flatten()[None].expand(len(lost), -1),
        ]  # fmt: skip
        return (torch.cat([part.float() for part in answer], 1),)

    def trace(self, solution: Solution, best: int, thresholds: Sequence[float]) -> Trace:
        """The way of one hypothesis of a solution that was traced.

        thresholds: squared residual of the worst inlier at each level.
        """
        if solution.tracer is None:
            raise ValueError("the solution was not traced")
        counts = [len(o) for o in solution.observations]
        steps = solution.tracer.steps(best)
        room = len(steps[0].squared) // len(counts)
        real = _without_padding(counts, room)
        residual, confidence, poses = [], [], []
        for step in steps:
            share = step.squared.cpu() / thresholds[step.level]
            residual.append(torch.where(step.valid.cpu() > 0, share, math.inf)[real])
            confidence.append(step.confidence.cpu()[real])
            pose = solution.frame.to_map(step.pose.to("cpu"))
            poses.append(torch.cat([pose.quaternion(), pose.translation]))
        return Trace(
            levels=np.array([step.level for step in steps], np.uint8),
            poses=torch.stack(poses).numpy(),
            residual=torch.stack(residual).float().numpy(),
            confidence=torch.stack(confidence).float().numpy(),
            points=np.concatenate([o.point for o in solution.observations]),
            references=np.concatenate([o.reference for o in solution.observations]),
            views=np.repeat(np.arange(len(counts)), counts).astype(np.uint8),
        )

    def _solution(
        self,
        answer: Tensor,
        layout: _Packing,
        frame: LocalFrame,
        observations: tuple[Observations, ...],
        start: Start,
    ) -> Solution:
        count = layout.views * layout.room
        sizes = [12, 12, 1, 36, 6, 1, 2 * count, count, count, count, count, count]
        (
            poses, before, failed, hessian, gradient, cost, pixels, squared, valid, confidence,
            weight, known,
        ) = answer.split(sizes, 1)  # fmt: skip
        real = _without_padding([len(o) for o in observations], layout.room)
        return Solution(
            poses=_pose(poses),
            before=_pose(before),
            failed=failed[:, 0] > 0,
            system=LinearSystem(
                hessian=hessian.unflatten(1, (6, 6)),
                gradient=gradient,
                cost=cost[:, 0],
                pixels=pixels.unflatten(1, (count, 2))[:, real],
                squared=squared[:, real],
                valid=valid[:, real] > 0,
                confidence=confidence[:, real],
                weight=weight[:, real],
            ),
            compared=int(known[0].sum()),
            frame=frame,
            observations=observations,
            start=start,
        )
