"""Training losses of a differentiable alignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pixloc_ros.geometry import Camera, Pose, RobustKernel


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the last dimension where the mask holds; zero where it never does."""
    mask = mask.to(values.dtype)
    return (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)


@dataclass(frozen=True)
class ReprojectionLoss:
    """Robust reprojection error of the 3D points after each level.

    PixLoc (CVPR 2021), equation 8: pseudo-Huber error in pixels, clamped, averaged over
    levels; a level counts only where the coarser one ended near enough (`success` times its
    stride), so that the fine features are not trained on hopeless starts.
    """

    scale_px: float = 2.0
    clamp_px: float = 50.0
    success: float = 3.0
    min_points: int = 10

    def error(
        self, camera: Camera, points: Tensor, truth: Pose, pose: Pose, mask: Tensor
    ) -> Tensor:
        """Mean robust reprojection error (B,) of points (B, N, 3)."""
        target, _ = camera.project(truth.transform(points))
        pixels, _ = camera.project(pose.transform(points))
        cost, _ = RobustKernel(1.0, self.scale_px)(((target - pixels) ** 2).sum(-1))
        return masked_mean(cost / 4, mask)

    def __call__(
        self,
        camera: Camera,
        points: Tensor,
        truth: Pose,
        start: Pose,
        poses: Sequence[Pose],
        strides: Sequence[int],
    ) -> tuple[Tensor, list[Tensor]]:
        """Loss (B,) and the clamped error (B,) after each level, coarse to fine.

        camera: (B,) of the query image. truth, start, poses: (B,) query from reference frame.
        """
        _, seen = camera.project(truth.transform(points))
        _, seen_at_start = camera.project(start.transform(points))
        mask = seen & seen_at_start
        enough = mask.sum(-1) >= self.min_points
        total = torch.zeros(points.shape[0], dtype=points.dtype, device=points.device)
        gate = torch.ones_like(enough)
        errors = []
        for pose, stride in zip(poses, strides, strict=True):
            error = self.error(camera, points, truth, pose, mask).clamp(max=self.clamp_px)
            total = total + error / len(poses) * gate
            gate = error < self.success * stride
            errors.append(error)
        return total * enough, errors
