"""Training losses of a differentiable alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pixloc_ros.geometry import Camera, FeatureTable, Pose, RobustKernel


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


@dataclass(frozen=True)
class ContrastiveLoss:
    """The feature of a point in the reference shall be nearest to its own in the query.

    InfoNCE (van den Oord et al. 2018, equation 4) over the true positions of all points and a
    grid of other cells of the query; cells nearer than `radius` to the truth are no negatives.
    It makes features that can be matched without any idea of the pose.
    """

    temperature: float = 0.07
    radius: float = 2.0
    cells: int = 1024

    def __call__(
        self, features: Tensor, query: Tensor, targets: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss (P,) and the share (P,) of seen points whose own position scores best.

        features: (P, N, C) of the reference, unit norm. query: (P, C, H, W), unit norm.
        targets: (P, N, 2) cells of the query. seen: (P, N).
        """
        height, width = query.shape[-2:]
        own = F.normalize(FeatureTable(query).sample(targets), dim=-1)
        step = max(math.ceil(math.sqrt(height * width / self.cells)), 1)
        sparse = query[..., step // 2 :: step, step // 2 :: step]
        rows, columns = sparse.shape[-2:]
        y = torch.arange(rows, device=query.device) * step + step // 2 + 0.5
        x = torch.arange(columns, device=query.device) * step + step // 2 + 0.5
        grid = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], -1).reshape(-1, 2)
        candidates = torch.cat([own, sparse.flatten(2).transpose(1, 2)], 1)
        places = torch.cat([targets, grid.to(targets).expand(len(query), -1, 2)], 1)
        places = torch.nan_to_num(places.detach()).clamp(-1e4, 1e4)
        count = targets.shape[1]
        near = torch.cdist(places[:, :count], places) < self.radius
        itself = torch.eye(count, places.shape[1], dtype=torch.bool, device=query.device)
        known = F.pad(seen, (0, places.shape[1] - count), value=True)
        logits = features @ candidates.transpose(1, 2) / self.temperature
        logits = logits.masked_fill((near & ~itself) | (~known[:, None] & ~itself), -torch.inf)
        truth = logits.diagonal(dim1=1, dim2=2)
        forward = logits.logsumexp(-1) - truth
        backward = logits[..., :count].logsumexp(-2) - truth
        right = (logits.argmax(-1) == torch.arange(count, device=query.device)).to(truth.dtype)
        return masked_mean((forward + backward) / 2, seen), masked_mean(right, seen)


@dataclass(frozen=True)
class GaussNewtonLoss:
    """A Gauss-Newton step from beside the truth shall be likely to lead there.

    GN-Net (von Stumberg et al. 2020), equations 6 to 10: negative log-likelihood of the true
    position under the Gaussian whose mean is the step's result and whose information is
    J^T J / sigma^2, plus equation 5's contrastive part, which the caller adds.
    """

    radius: float = 1.0
    sigma: float = 0.1
    damping: float = 1e-3

    def __call__(
        self, features: Tensor, query: Tensor, targets: Tensor, seen: Tensor, offset: Tensor
    ) -> Tensor:
        """Loss (P,); arguments as `ContrastiveLoss`, offset: (P, N, 2) uniform in (-1, 1)."""
        start = targets + offset * self.radius
        value, slope = FeatureTable(query).sample_with_gradient(start)
        residual = (value - features) / self.sigma
        slope = slope / self.sigma
        a, b, d = (
            (slope[..., i, :] * slope[..., j, :]).sum(-1) for i, j in ((0, 0), (0, 1), (1, 1))
        )
        a, d = a + self.damping, d + self.damping
        determinant = a * d - b * b
        gx, gy = ((slope[..., i, :] * residual).sum(-1) for i in (0, 1))
        step_x = -(d * gx - b * gy) / determinant
        step_y = -(a * gy - b * gx) / determinant
        away = targets - start
        ex, ey = away[..., 0] - step_x, away[..., 1] - step_y
        distance = a * ex * ex + 2 * b * ex * ey + d * ey * ey
        likely = distance / 2 + math.log(2 * math.pi) - determinant.log() / 2
        return masked_mean(likely.clamp(max=1e3), seen)


def overlap_loss(descriptors: Tensor, overlap: Tensor, group: int, temperature: float) -> Tensor:
    """Images that see the same shall have similar descriptors: (G,), one loss a group.

    descriptors: (S * V, D), unit norm; overlap: (S, V, V) share of a view that another sees;
    group: scenes that are told apart together, a divisor of S. Cross-entropy between the
    similarities of an image to all others of its group and their overlap with it.
    """
    scenes, views = overlap.shape[:2]
    groups = scenes // group
    d = descriptors.reshape(groups, group * views, -1)
    logits = d @ d.transpose(1, 2) / temperature
    same = torch.zeros(groups, group * views, group * views, device=d.device)
    for k in range(group):
        block = slice(k * views, (k + 1) * views)
        mutual = torch.minimum(overlap, overlap.transpose(1, 2))
        same[:, block, block] = mutual.reshape(groups, group, views, views)[:, k]
    itself = torch.eye(group * views, dtype=torch.bool, device=d.device)
    logits = logits.masked_fill(itself, -1e4)
    same = same.masked_fill(itself, 0.0)
    total = same.sum(-1, keepdim=True)
    # an image that no other overlaps with has nothing to be similar to
    has = (total > 0.05).squeeze(-1)
    share = same / total.clamp(min=1e-6)
    return masked_mean(-(share * logits.log_softmax(-1)).sum(-1), has)
