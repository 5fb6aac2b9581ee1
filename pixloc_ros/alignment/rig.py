"""Several cameras that are fixed to each other, aligned as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pixloc_ros.alignment.kernels import linearize
from pixloc_ros.alignment.problem import LinearSystem, RigProblem
from pixloc_ros.geometry import Pose
from pixloc_ros.geometry.so3 import skew


def perturbation(cam_from_rig: Pose) -> Tensor:
    """Jacobian (6, 6) of a camera's left perturbation by that of its rig.

    cam_from_rig (exp(r), t) = (exp(r'), t') cam_from_rig with r' = R r and, to first order,
    t' = R t + [p]_x R r, where (R, p) = cam_from_rig.
    """
    rotation, offset = cam_from_rig.rotation, cam_from_rig.translation
    zero = torch.zeros_like(rotation)
    upper = torch.cat([rotation, skew(offset) @ rotation], -1)
    return torch.cat([upper, torch.cat([zero, rotation], -1)], -2)


def linearize_rig(rig: RigProblem, rig_from_map: Pose) -> LinearSystem:
    """The normal equations of all cameras by the pose of the rig (B,); the points one after
    the other.
    """
    systems = []
    for problem, cam_from_rig in zip(rig.problems, rig.cam_from_rig, strict=True):
        systems.append(linearize(problem, cam_from_rig @ rig_from_map))
    jacobians = [perturbation(pose) for pose in rig.cam_from_rig]
    shares = [(p.confidence * p.mask).sum(-1) for p in rig.problems]

    def joined(field: str) -> Tensor:
        return torch.cat([getattr(s, field) for s in systems], 1)

    return LinearSystem(
        hessian=_total([j.T @ s.hessian @ j for s, j in zip(systems, jacobians, strict=True)]),
        gradient=_total([s.gradient @ j for s, j in zip(systems, jacobians, strict=True)]),
        cost=_total([s.cost * n for s, n in zip(systems, shares, strict=True)])
        / _total(shares).clamp(min=1e-9),
        pixels=joined("pixels"),
        squared=joined("squared"),
        valid=joined("valid"),
        confidence=joined("confidence"),
        weight=joined("weight"),
    )


def _total(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(torch.broadcast_tensors(*parts))).sum(0)
