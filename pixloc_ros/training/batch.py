"""What one training step sees: images, and pairs of them with points and poses."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.geometry import Camera, Pose


@dataclass(frozen=True)
class PairBatch:
    """M images and P pairs of a reference and a query among them.

    images: (M, 3, H, W) RGB in [0, 1]. cameras: (M,). reference, query: (P,) image indices.
    points: (P, N, 3) in the reference camera's frame. mask: (P, N), False for padding.
    visible: (P, N), the points that the query sees, where that is known.
    truth, start: (P,) query_from_reference. valid: (P,), False for a pair that stands for none.
    overlap: (M / V, V, V) share of image i that image j of the same scene sees, or None.
    """

    images: Tensor
    cameras: Camera
    reference: Tensor
    query: Tensor
    points: Tensor
    mask: Tensor
    visible: Tensor
    truth: Pose
    start: Pose
    valid: Tensor
    overlap: Tensor | None = None

    def to(self, device: torch.device) -> PairBatch:
        moved: dict[str, Any] = {
            name: None if value is None else value.to(device) for name, value in vars(self).items()
        }
        return PairBatch(**moved)

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory of every tensor until the work queued on a stream is done."""
        for field in fields(self):
            value = getattr(self, field.name)
            tensors = (
                [value]
                if isinstance(value, Tensor)
                else []
                if value is None
                else list(vars(value).values())
            )
            for tensor in tensors:
                if isinstance(tensor, Tensor):
                    tensor.record_stream(stream)

    @property
    def targets(self) -> tuple[Tensor, Tensor]:
        """True pixels (P, N, 2) of the points in the query, and which are seen there (P, N)."""
        pixels, inside = self.cameras[self.query].project(self.truth.transform(self.points))
        return pixels, inside & self.visible & self.mask & self.valid[:, None]


@dataclass
class StartOptions:
    """Where alignment starts in training.

    at_reference: share of pairs that start at the reference's pose. The others start at the
    truth, turned by up to max_deg about a random axis and moved by up to max_shift times the
    median depth of the points.
    """

    at_reference: float = 0.4
    max_deg: float = 15.0
    max_shift: float = 0.25


def draw_start(
    truth: Pose, depth: Tensor, options: StartOptions, random: np.random.Generator
) -> Pose:
    """A start for each true pose (P,) query_from_reference; depth: (P,) median, metres."""
    count = len(truth)
    axes = random.normal(0, 1, (2, count, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    length = random.uniform(0, 1, (2, count, 1))
    length = length * [[[options.max_shift]], [[math.radians(options.max_deg)]]]
    shift, turn = (torch.from_numpy(v).to(truth.translation) for v in axes * length)
    moved = truth.perturb(torch.cat([shift * depth.to(shift)[:, None], turn], -1))
    still = torch.from_numpy(random.random(count) < options.at_reference).to(truth.device)
    same = Pose.identity(count, dtype=truth.dtype).to(truth.device)
    return Pose(
        torch.where(still[:, None, None], same.rotation, moved.rotation),
        torch.where(still[:, None], same.translation, moved.translation),
    )


def random_pixels(
    images: Tensor, allowed: Tensor, count: int, gradient_share: float, noise: Tensor
) -> Tensor:
    """Distinct pixels (B, count) as flat indices, a share of them where the image has detail.

    images: (B, 3, H, W); allowed: (B, H, W) bool; noise: (B, H * W) uniform in (0, 1), the
    randomness. Sampling without replacement by exponential keys: Efraimidis, Spirakis (2006).
    """
    grey = images.mean(1)
    slope_y, slope_x = torch.gradient(grey, dim=(-2, -1))
    detail = (slope_x.abs() + slope_y.abs()).flatten(1)
    allowed = allowed.flatten(1).to(grey.dtype)
    detail = detail * allowed + 1e-9
    even = allowed + 1e-9
    weight = gradient_share * detail / detail.sum(-1, keepdim=True)
    weight = weight + (1 - gradient_share) * even / even.sum(-1, keepdim=True)
    keys = noise.clamp(1e-9, 1 - 1e-7).log() / weight
    return keys.topk(count, dim=-1).indices
