"""Sampling of feature maps at sub-pixel points, with the gradient of the map.

Both interpolations are weighted sums over a 4 x 4 neighbourhood with separable weights, so
values and gradients come from one gather and one small matrix product per point.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Interpolation = Literal["linear", "cubic"]

_CROSS = (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14)
"""The cells of a 4 x 4 block without its corners."""


def _weights_linear(f: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear weights of the taps -1, 0, 1, 2, and central differences over one cell each way."""
    zero = torch.zeros_like(f)
    value = torch.stack([zero, 1 - f, f, zero], -1)
    slope = torch.stack([f - 1, -f, 1 - f, f], -1) / 2
    return value, slope


def _weights_cubic(f: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and their derivatives of cubic convolution: Keys (1981), equation 4, a = -1/2."""
    f2, f3 = f * f, f * f * f
    value = [-f3 + 2 * f2 - f, 3 * f3 - 5 * f2 + 2, -3 * f3 + 4 * f2 + f, f3 - f2]
    slope = [-3 * f2 + 4 * f - 1, 9 * f2 - 10 * f, -9 * f2 + 8 * f + 1, 3 * f2 - 2 * f]
    return torch.stack(value, -1) / 2, torch.stack(slope, -1) / 2


class FeatureTable:
    """A feature map laid out for sampling: one row of channels per pixel.

    feature_map: (C, H, W), or (B, C, H, W) for one map per batch element.
    """

    def __init__(self, feature_map: Tensor) -> None:
        if feature_map.dim() not in (3, 4) or 0 in feature_map.shape:
            raise ValueError(
                f"a feature map is (C, H, W) or (B, C, H, W), not {tuple(feature_map.shape)}"
            )
        self.height, self.width = feature_map.shape[-2:]
        self.batched = feature_map.dim() == 4
        # no copy where channels are last in memory
        self.rows = feature_map.movedim(-3, -1).reshape(-1, feature_map.shape[-3])

    # made once a map: a tensor made at every sampling is a transfer that a GPU waits for
    @cached_property
    def _size(self) -> Tensor:
        return torch.tensor([self.width, self.height], device=self.rows.device)

    @cached_property
    def _cross(self) -> Tensor:
        return torch.tensor(_CROSS, device=self.rows.device)

    def inside(self, points: Tensor, pad: float = 0.0) -> Tensor:
        """Whether points (..., N, 2) are at least `pad` cells from the outermost cell centres."""
        limit = self._size.to(points)
        return ((points >= pad + 0.5) & (points <= limit - pad - 0.5)).all(-1)

    def sample(self, points: Tensor, mode: Interpolation = "linear") -> Tensor:
        """Values (..., N, C) at points (..., N, 2); cells outside the map count as zero.

        Points are in cells of this map with COLMAP's origin: the first cell centre is (.5, .5).
        A batched table takes points (B, ..., N, 2).
        """
        return self._sample(points, mode, gradients=False)[..., 0, :]

    def sample_with_gradient(
        self, points: Tensor, mode: Interpolation = "linear"
    ) -> tuple[Tensor, Tensor]:
        """As `sample`, and the gradient with respect to x and y: (..., N, 2, C) per cell."""
        stacked = self._sample(points, mode, gradients=True)
        return stacked[..., 0, :], stacked[..., 1:, :]

    def _sample(self, points: Tensor, mode: Interpolation, gradients: bool) -> Tensor:
        # the one place where pixel centres move from COLMAP's .5 to array indices; the clamp
        # keeps far and non-finite projections within integer range (they sample zeros)
        bound = self._size.to(points.dtype)
        index = torch.nan_to_num(points - 0.5, nan=-8.0)
        index = torch.minimum(index.clamp(min=-8.0), bound + 8)
        base = index.detach().floor()
        weigh = _weights_linear if mode == "linear" else _weights_cubic
        (vx, sx), (vy, sy) = (weigh(f) for f in (index - base).unbind(-1))
        # along x and y; without gradients a bilinear value needs the middle two taps only
        taps = slice(1, 3) if mode == "linear" and not gradients else slice(0, 4)
        offsets = torch.arange(-1, 3, device=points.device)[taps]
        x = base[..., 0, None].long() + offsets
        y = base[..., 1, None].long() + offsets
        inside_x, inside_y = (x >= 0) & (x < self.width), (y >= 0) & (y < self.height)
        pairs = [(vx, vy), (sx, vy), (vx, sy)] if gradients else [(vx, vy)]
        weights = torch.stack(
            [
                (wy[..., taps] * inside_y)[..., :, None] * (wx[..., taps] * inside_x)[..., None, :]
                for wx, wy in pairs
            ],
            -3,
        ).flatten(-2)
        rows = (
            y.clamp(0, self.height - 1)[..., :, None] * self.width
            + x.clamp(0, self.width - 1)[..., None, :]
        ).flatten(-2)
        if mode == "linear" and gradients:
            # the corners of the 4 x 4 block carry no weight: do not fetch them
            weights, rows = weights[..., self._cross], rows[..., self._cross]
        if self.batched:
            first = torch.arange(rows.shape[0], device=rows.device) * (self.height * self.width)
            rows = rows + first.reshape(-1, *([1] * (rows.dim() - 1)))
        width = self.rows.shape[-1]  # told, as no points leave it open
        fetched = self.rows.index_select(0, rows.reshape(-1)).reshape(*rows.shape, width)
        weights = weights.to(torch.promote_types(fetched.dtype, torch.float32))
        return weights @ fetched.to(weights.dtype)
