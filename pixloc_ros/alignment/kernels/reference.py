"""The feature-metric cost in plain torch: differentiable, and what other backends must equal."""

from __future__ import annotations

import torch
from torch import Tensor

from pixloc_ros.alignment.problem import AlignmentProblem, LinearSystem
from pixloc_ros.geometry import Pose

UNRELATED = 2.0
"""Expected squared distance of two unrelated unit features."""


def linearize(problem: AlignmentProblem, cam_from_map: Pose) -> LinearSystem:
    """Normal equations at the poses (B,). PixLoc (CVPR 2021), equations 2 to 5.

    The channels of every point are reduced to the 2 x 2 matrix G^T G, the 2-vector G^T r and
    the scalar r^T r (G = gradient of the feature map, C x 2) before any pose derivative is
    formed, so no N x C x 6 array exists.
    """
    in_camera = cam_from_map.transform(problem.points)
    pixels, to_pixels, valid = problem.camera.project_with_jacobian(in_camera)
    valid = valid & problem.query.features.inside(pixels, problem.pad) & problem.mask
    value, slope = problem.query.features.sample_with_gradient(pixels)
    confidence = problem.query.confidence.sample(pixels)[..., 0]
    residual = value - problem.features

    gram = slope @ slope.transpose(-1, -2)
    slope_residual = (slope @ residual[..., None]).squeeze(-1)
    squared = (residual * residual).sum(-1)

    robust_cost, robust_weight = problem.kernel(squared)
    both = torch.where(valid, confidence * problem.confidence, torch.zeros_like(squared))
    weight = both * robust_weight
    # a point that is not seen may project anywhere: keep its numbers out of the sums
    jacobian = to_pixels @ cam_from_map.transform_jacobian(in_camera)
    jacobian = torch.where(valid[..., None, None], jacobian, torch.zeros_like(jacobian))
    weighted = jacobian.transpose(-1, -2) * weight[..., None, None]
    hessian = (weighted @ gram @ jacobian).sum(-3)
    gradient = (weighted @ slope_residual[..., None]).sum(-3).squeeze(-1)
    cost = _mean_cost(problem, robust_cost, valid)
    return LinearSystem(hessian, gradient, cost, pixels, squared, valid, both, weight)


def _mean_cost(problem: AlignmentProblem, robust_cost: Tensor, valid: Tensor) -> Tensor:
    unseen, _ = problem.kernel(torch.full_like(robust_cost, UNRELATED))
    share = problem.confidence * problem.mask
    charged = torch.where(valid, robust_cost, unseen)
    return (charged * share).sum(-1) / share.sum(-1).clamp(min=1e-9)
