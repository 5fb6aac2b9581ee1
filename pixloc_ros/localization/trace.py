"""What an alignment went through, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.alignment import (
    AlignmentProblem,
    LinearSystem,
    LMOptions,
    LMResult,
    RigProblem,
    align,
)
from pixloc_ros.geometry import Pose


@dataclass(frozen=True)
class Trace:
    """K steps of the hypothesis that was answered with, N observations of map points.

    levels: (K,) of the map. poses: (K, 7) cam_from_map of the first view, w x y z and metres.
    residual: (K, N) squared residuals in units of the largest of an inlier, infinite where a
    point is not visible. confidence: (K, N) product of both confidences. points, references:
    (N,) indices of the map; views: (N,) which camera compares them.
    """

    levels: np.ndarray
    poses: np.ndarray
    residual: np.ndarray
    confidence: np.ndarray
    points: np.ndarray
    references: np.ndarray
    views: np.ndarray

    def __len__(self) -> int:
        return len(self.levels)

    def pose(self, step: int) -> Pose:
        """cam_from_map, batch shape (), float64."""
        return Pose.from_quaternion(self.poses[step, :4], self.poses[step, 4:])


@dataclass(frozen=True)
class Step:
    """A hypothesis before an iteration, or at the end of a level. squared and on: (N,)."""

    level: int
    pose: Pose
    squared: Tensor
    valid: Tensor
    confidence: Tensor


@dataclass
class _Stage:
    """Hypotheses that went through some levels together, and what they were before: -1 is a
    start.
    """

    parents: Tensor
    steps: list[tuple[int, Pose, LinearSystem]]


class Tracer:
    """Keeps every step of every hypothesis of one alignment."""

    def __init__(self) -> None:
        self._stages: list[_Stage] = []

    def align(
        self,
        problems: Sequence[AlignmentProblem | RigProblem],
        start: Pose,
        dampings: Sequence[Tensor],
        options: LMOptions,
        levels: Sequence[int],
        parents: Tensor,
    ) -> LMResult:
        """As `alignment.align`. parents: (B,) of each hypothesis in the stage before, or -1."""
        stage = _Stage(parents, [])

        def keep(index: int, _: int, system: LinearSystem, delta: Tensor, moved: Pose) -> None:
            # where the system was made, which a rejected step does not leave
            step = Pose.from_rotvec(delta[:, 3:], delta[:, :3])
            stage.steps.append((levels[index], step.inverse() @ moved, system))

        result = align(problems, start, dampings, options, keep)
        stage.steps.append((levels[-1], result.pose, result.system))
        self._stages.append(stage)
        return result

    def steps(self, best: int) -> list[Step]:
        """The way of one of the last hypotheses; steps that did not move are left out."""
        ways = []
        for stage in reversed(self._stages):
            ways.append(
                [
                    Step(
                        level,
                        pose[best],
                        system.squared[best],
                        system.valid[best],
                        system.confidence[best],
                    )
                    for level, pose, system in stage.steps
                ]
            )
            best = int(stage.parents[best])
            if best < 0:
                break
        found: list[Step] = []
        for step in (step for way in reversed(ways) for step in way):
            if found and found[-1].level == step.level and _same(found[-1].pose, step.pose):
                found.pop()
            found.append(step)
        return found


def _same(one: Pose, two: Pose) -> bool:
    # undoing a step of zero costs the last digits
    return bool(torch.allclose(one.matrix(), two.matrix(), rtol=0, atol=1e-6))
