"""Robust kernels on squared residuals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RobustKernel:
    """Barron's general robust kernel, or Huber's.

    alpha: 2 squared, 1 pseudo-Huber, 0 Cauchy, -2 Geman-McClure; `None` is Huber's kernel.
    scale: residual (not squared) at which the kernel starts to saturate.
    Source: Barron, "A General and Adaptive Robust Loss Function" (CVPR 2019), equations 8 and
    13, scaled so that the cost of a small squared residual is that squared residual.
    """

    alpha: float | None = 0.0
    scale: float = 0.1

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"the scale of a robust kernel is positive, not {self.scale}")

    def __call__(self, squared: Tensor) -> tuple[Tensor, Tensor]:
        """Cost and its derivative (the weight) of squared residuals, same shape."""
        cost, weight = self._unit(squared / self.scale**2)
        return cost * self.scale**2, weight

    def _unit(self, x: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.alpha
        if alpha is None:
            root = x.clamp(min=1.0).sqrt()
            return torch.where(x <= 1, x, 2 * root - 1), 1 / root
        if alpha == 2:
            return x, torch.ones_like(x)
        if alpha == 0:
            return 2 * torch.log1p(x / 2), 1 / (1 + x / 2)
        if alpha == -float("inf"):
            weight = torch.exp(-x / 2)
            return 2 * (1 - weight), weight
        b = abs(alpha - 2)
        inner = 1 + x / b
        return 2 * b / alpha * (inner ** (alpha / 2) - 1), inner ** (alpha / 2 - 1)


SQUARED = RobustKernel(2.0, 1.0)
CAUCHY = RobustKernel(0.0, 0.1)
"""PixLoc's kernel: Cauchy with scale 0.1 on unit-norm features."""


def huber(scale: float = 1.0) -> RobustKernel:
    return RobustKernel(None, scale)
