"""Feature-metric alignment of pose hypotheses by Levenberg-Marquardt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor

from pixloc_ros.alignment.damping import damped_step
from pixloc_ros.alignment.kernels import linearize
from pixloc_ros.alignment.kernels.backend import fused
from pixloc_ros.alignment.kernels.packing import (
    COST,
    FAILED,
    ITERATIONS,
    can_pack,
    fresh_state,
    pack,
    poses,
)
from pixloc_ros.alignment.problem import (
    AlignmentProblem,
    LinearSystem,
    LMOptions,
    LMResult,
    RigProblem,
)
from pixloc_ros.alignment.rig import linearize_rig
from pixloc_ros.geometry import Pose

Observer = Callable[[int, LinearSystem, Tensor, Pose], None]
"""Called after each iteration with its number, the system it solved, delta and the new poses."""


def _select(choice: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(choice.reshape(-1, *([1] * (new.dim() - 1))), new, old)


def _select_system(choice: Tensor, new: LinearSystem, old: LinearSystem) -> LinearSystem:
    names = old.__dataclass_fields__
    return LinearSystem(**{n: _select(choice, getattr(new, n), getattr(old, n)) for n in names})


def _rms_motion(before: LinearSystem, after: LinearSystem) -> Tensor:
    seen = (before.valid & after.valid).to(before.pixels.dtype)
    moved = torch.where(
        seen.bool()[..., None], after.pixels - before.pixels, torch.zeros_like(after.pixels)
    )
    return ((moved**2).sum(-1).sum(-1) / seen.sum(-1).clamp(min=1)).sqrt()


def _linearize(problem: AlignmentProblem | RigProblem, pose: Pose) -> LinearSystem:
    if isinstance(problem, RigProblem):
        return linearize_rig(problem, pose)
    return linearize(problem, pose)


def optimize_level(
    problem: AlignmentProblem | RigProblem,
    start: Pose,
    damping: Tensor,
    options: LMOptions,
    observer: Observer | None = None,
) -> LMResult:
    """Refine hypotheses (B,) `cam_from_map`, or `rig_from_map` of a rig, at one level.

    damping: (6,) factors of `alignment.damping`. Differentiable in features, confidences,
    points, start and damping. Where nothing is differentiated or observed, the fused kernels
    of the device do the same faster.
    """
    if observer is None and can_pack(problem, start, damping):
        kernels = fused(start.device)
        if kernels is not None:
            return _optimize_fused(kernels, problem, start, damping, options)
    pose = start
    system = _linearize(problem, pose)
    batch = pose.shape[0]
    boost = torch.ones(batch, 1, dtype=pose.dtype, device=pose.device)
    failed = torch.zeros(batch, dtype=torch.bool, device=pose.device)
    done = failed
    iterations = torch.zeros(batch, dtype=torch.long, device=pose.device)
    for number in range(options.iterations):
        failed = failed | (~done & (system.valid.sum(-1) < options.min_points))
        delta, solved = damped_step(system.hessian, system.gradient, damping * boost)
        failed = failed | (~done & ~solved)
        active = ~done & ~failed
        delta = _select(active, delta, torch.zeros_like(delta))
        moved = pose.perturb(delta)
        next_system = _linearize(problem, moved)
        if observer is not None:
            observer(number, system, delta, moved)
        settled = done
        if options.tolerance > 0:
            settled = _rms_motion(system, next_system) < options.tolerance
        if options.reject_steps:
            accepted = active & (next_system.cost <= system.cost)
            boost = torch.where(accepted[:, None], boost / 3, boost * 10).clamp(1e-3, 1e6)
            pose = Pose(
                _select(accepted, moved.rotation, pose.rotation),
                _select(accepted, moved.translation, pose.translation),
            )
            system = _select_system(accepted, next_system, system)
        else:
            # a hypothesis that is not active took a step of zero
            accepted, pose, system = active, moved, next_system
        iterations = iterations + accepted
        done = done | settled
        if options.tolerance > 0 and bool((done | failed).all()):
            break
    return LMResult(pose, system.cost, iterations, failed, lambda: system)


def _optimize_fused(
    kernels: ModuleType,
    problem: AlignmentProblem | RigProblem,
    start: Pose,
    damping: Tensor,
    options: LMOptions,
) -> LMResult:
    level, state = pack(problem), fresh_state(start)
    kernels.optimize(level, state, damping, options)
    return LMResult(
        poses(state),
        state[:, COST],
        state[:, ITERATIONS].long(),
        state[:, FAILED] > 0,
        lambda: level.system(state, kernels.contributions(level, state)),
    )


def align(
    problems: Sequence[AlignmentProblem | RigProblem],
    start: Pose,
    dampings: Sequence[Tensor],
    options: LMOptions,
    observer: Callable[[int, int, LinearSystem, Tensor, Pose], None] | None = None,
) -> LMResult:
    """Refine hypotheses (B,) through levels, coarse to fine; a failure at a level sticks.

    observer: as for `optimize_level`, with the index of the level first.
    """
    pose = start
    failed = torch.zeros(pose.shape[0], dtype=torch.bool, device=pose.device)
    iterations = torch.zeros(pose.shape[0], dtype=torch.long, device=pose.device)
    if not problems:
        raise ValueError("alignment needs at least one level")
    for index, (problem, damping) in enumerate(zip(problems, dampings, strict=True)):
        watch = None if observer is None else _bind(observer, index)
        result = optimize_level(problem, pose, damping, options, watch)
        pose, failed = result.pose, failed | result.failed
        iterations = iterations + result.iterations
    return replace(result, iterations=iterations, failed=failed)


def _bind(observer: Callable[..., None], level: int) -> Observer:
    return lambda *arguments: observer(level, *arguments)
