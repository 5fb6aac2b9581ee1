"""Alignment of one query, of one view or several, with references of a map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from pixloc_ros.features import FeatureNetwork
from pixloc_ros.geometry import Camera, Lens, Pose, RobustKernel
from pixloc_ros.localization.fields import Fields, pack, unpack
from pixloc_ros.localization.matching import Matches
from pixloc_ros.localization.observations import LocalFrame, Observations, gather
from pixloc_ros.localization.schedule import coarse_to_fine
from pixloc_ros.localization.trace import Trace, Tracer
from pixloc_ros.localization.views import Query
from pixloc_ros.mapping import FeatureStore, PixMap
from pixloc_ros.mapping.feature_store import take


@dataclass(frozen=True)
class Start:
    """Where alignment begins: poses of the rig (B,), and what they came from.

    references: of each view. matches: of each view that was matched; empty for a prior. rival: why
    the first pose is not the only one that matches speak for, empty where it is.
    """

    poses: Pose
    references: tuple[tuple[int, ...], ...]
    matches: tuple[Matches | None, ...] = ()
    rival: str = ""


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

    @property
    def inputs(self) -> Fields:
        """What goes to the device beside the features. Poses are flat, see `_flat`."""
        return {
            "begin": (self.hypotheses, 12),
            "mounts": (self.views, 12),
            "cameras": (self.levels, self.views, Camera.NUMBERS),
            "points": (self.views, self.room, 3),
        }

    @property
    def outputs(self) -> Fields:
        """What comes back of each hypothesis; the points of the views one after the other."""
        points = self.views * self.room
        return {
            "poses": (12,),
            "before": (12,),
            "failed": (),
            "hessian": (6, 6),
            "gradient": (6,),
            "cost": (),
            "pixels": (points, 2),
            **dict.fromkeys(PER_POINT, (points,)),
        }


PER_POINT = ("squared", "valid", "confidence", "weight", "known")
"""Numbers of each point; known: whether it was compared."""


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
        for view, observed in enumerate(observations):
            points[view, : len(observed)] = (observed.points - frame.origin).float()
            rows[view, : len(observed)] = observed.rows
        cameras = [
            torch.stack([q.pyramid.levels[level].camera(q.camera).numbers() for q in queries])
            for level in range(layout.levels)
        ]
        numbers = pack(
            layout.inputs,
            {
                "begin": _flat(frame.from_map(start.poses)),
                "mounts": torch.stack([_flat(query.cam_from_rig) for query in queries]),
                "cameras": torch.stack(cameras),
                "points": points,
            },
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
        self,
        level: int,
        layout: _Packing,
        inputs: Mapping[str, Tensor],
        rows: Tensor,
        maps: Sequence[Tensor],
    ) -> AlignmentProblem | RigProblem:
        problems = []
        for view in range(layout.views):
            known = rows[view].clamp(min=0)
            confidence = take(self._store.confidence[level], known).float()
            at = 2 * (view * layout.levels + level)
            problems.append(
                AlignmentProblem(
                    QueryMap.of(maps[at], maps[at + 1]),
                    Camera.from_numbers(inputs["cameras"][level, view], layout.lenses[view]),
                    inputs["points"][view][None],
                    take(self._store.features[level], known)[None],
                    confidence[None],
                    ((rows[view] >= 0) & (confidence > 0))[None],
                    self._kernel,
                )
            )
        if layout.alone:
            return problems[0]
        return RigProblem(tuple(problems), tuple(map(_pose, inputs["mounts"])))

    def _solve(
        self, numbers: Tensor, rows: Tensor, *more: Any, tracer: Tracer | None = None
    ) -> tuple[Tensor, ...]:
        """All of an alignment in one go, on the device."""
        layout: _Packing
        *maps, layout = more
        inputs = unpack(layout.inputs, numbers)
        problems = [
            self._problem(level, layout, inputs, rows, maps) for level in range(layout.levels)
        ]

        def align_levels(levels: range, poses: Pose, parents: Tensor) -> LMResult:
            chosen = [problems[level] for level in levels]
            damping = [self._damping[level] for level in levels]
            if tracer is None:
                return align(chosen, poses, damping, self._lm)
            return tracer.align(chosen, poses, damping, self._lm, levels, parents)

        begin = _pose(inputs["begin"])
        aligned = coarse_to_fine(align_levels, layout.levels, begin, layout.from_prior)
        system = aligned.result.system
        finest = take(self._store.confidence[-1], rows.flatten().clamp(min=0)).view_as(rows)
        known = ((rows >= 0) & (finest > 0)).flatten()
        answer = {
            "poses": _flat(aligned.result.pose),
            "before": _flat(aligned.before),
            "failed": aligned.failed,
            "hessian": system.hessian,
            "gradient": system.gradient,
            "cost": system.cost,
            "pixels": system.pixels,
            "squared": system.squared,
            "valid": system.valid,
            "confidence": system.confidence,
            "weight": system.weight,
            "known": known[None].expand(len(aligned.failed), -1),
        }
        return (pack(layout.outputs, answer),)

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
        part = unpack(layout.outputs, answer)
        real = _without_padding([len(o) for o in observations], layout.room)
        return Solution(
            poses=_pose(part["poses"]),
            before=_pose(part["before"]),
            failed=part["failed"] > 0,
            system=LinearSystem(
                hessian=part["hessian"],
                gradient=part["gradient"],
                cost=part["cost"],
                pixels=part["pixels"][:, real],
                squared=part["squared"][:, real],
                valid=part["valid"][:, real] > 0,
                confidence=part["confidence"][:, real],
                weight=part["weight"][:, real],
            ),
            compared=int(part["known"][0].sum()),
            frame=frame,
            observations=observations,
            start=start,
        )
