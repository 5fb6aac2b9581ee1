"""Merging the observations of a point from several references."""

from __future__ import annotations

import torch
from torch import Tensor


def average_observations(
    features: Tensor, confidence: Tensor, point: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Confidence-weighted mean of the observations of each point.

    features: (M, C); confidence: (M,); point: (M,) index below `count` of each observation.
    Returns (count, C) features, not normalized, and (count,) mean confidences; points
    without observations are zero. PixLoc (CVPR 2021), supplement: f = sum(c f) / sum(c).
    """
    total = torch.zeros(count, dtype=features.dtype, device=features.device)
    weight = total.index_add(0, point, confidence)
    number = total.index_add(0, point, torch.ones_like(confidence))
    merged = torch.zeros(
        count, features.shape[1], dtype=features.dtype, device=features.device
    ).index_add(0, point, features * confidence[:, None])
    return merged / weight.clamp(min=1e-12)[:, None], weight / number.clamp(min=1)
