"""Damping of Levenberg-Marquardt and the damped step."""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 1e-6


def learned_damping(theta: Tensor) -> Tensor:
    """Damping factors in (1e-6, 1e5), one per pose parameter. (..., 6) -> (..., 6).

    PixLoc (CVPR 2021), section 3.2: log10 lambda = -6 + 11 sigmoid(theta).
    """
    return 10.0 ** (-6.0 + 11.0 * torch.sigmoid(theta))


def damped_step(hessian: Tensor, gradient: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Solve (H + max(damping * diag H, 1e-6)) delta = -g.

    hessian: (B, 6, 6); gradient: (B, 6); damping: broadcast to (B, 6).
    Returns delta (B, 6), zero where the system is not positive definite or not finite, and
    whether it could be solved (B,): one bad hypothesis never stops the others.
    """
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    system = hessian + torch.diag_embed((diagonal * damping).clamp(min=FLOOR))
    finite = torch.isfinite(system).flatten(-2).all(-1) & torch.isfinite(gradient).all(-1)
    eye = torch.eye(6, dtype=hessian.dtype, device=hessian.device).expand_as(system)
    system = torch.where(finite[:, None, None], system, eye)
    gradient = torch.where(finite[:, None], gradient, torch.zeros_like(gradient))
    factor, info = torch.linalg.cholesky_ex(system)
    solvable = info == 0
    factor = torch.where(solvable[:, None, None], factor, eye)
    delta = -torch.cholesky_solve(gradient[..., None], factor).squeeze(-1)
    good = finite & solvable
    return torch.where(good[:, None], delta, torch.zeros_like(delta)), good
