"""The uncertainty of an aligned pose."""

from __future__ import annotations

import torch
from torch import Tensor

from pixloc_ros.alignment.problem import LinearSystem


def pose_covariance(system: LinearSystem) -> Tensor:
    """Covariance (B, 6, 6) of the left perturbation (translation, rotation) in the camera frame.

    The inverse Hessian of the weighted least squares, scaled by the variance of the weighted
    residuals: s^2 (J^T W J)^-1 with s^2 = sum(w |r|^2) / sum(w), the variance of a whole
    feature vector. Channels of a feature are far from independent, so each point counts as one
    measurement, not as C of them. Infinite where the Hessian is singular.
    Source: Triggs et al., "Bundle adjustment - a modern synthesis" (2000), section 9.
    """
    weight = system.weight.double()
    total = weight.sum(-1)
    variance = (weight * system.squared.double()).sum(-1) / total.clamp(min=1e-12)
    hessian = system.hessian.double()
    # unit diagonal first: metres and radians differ by orders of magnitude
    scale = hessian.diagonal(dim1=-2, dim2=-1).clamp(min=1e-30).rsqrt()
    factor, info = torch.linalg.cholesky_ex(hessian * scale[:, :, None] * scale[:, None, :])
    good = (info == 0) & torch.isfinite(hessian).flatten(1).all(-1) & (total > 0)
    eye = torch.eye(6, dtype=torch.float64, device=hessian.device)
    inverse = torch.cholesky_inverse(torch.where(good[:, None, None], factor, eye))
    covariance = inverse * scale[:, :, None] * scale[:, None, :] * variance[:, None, None]
    return torch.where(good[:, None, None], covariance, torch.full_like(covariance, torch.inf))


def condition_number(system: LinearSystem) -> Tensor:
    """Condition number (B,) of the Hessian scaled to unit diagonal; infinite when singular."""
    hessian = system.hessian.double()
    scale = hessian.diagonal(dim1=-2, dim2=-1).clamp(min=1e-30).rsqrt()
    values = torch.linalg.eigvalsh(hessian * scale[:, :, None] * scale[:, None, :])
    smallest = values[:, 0]
    return torch.where(
        smallest > 0, values[:, -1] / smallest, torch.full_like(smallest, torch.inf)
    )
