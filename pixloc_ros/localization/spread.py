"""How much of an image is filled by what agrees with a pose."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pixloc_ros.geometry import Camera

GRID = 4
"""Cells along a side of the image."""


def spread(pixels: Tensor, camera: Camera) -> float:
    """How many cells of a grid of GRID x GRID over the image some pixels (n, 2) fill, if they
    filled each alike: the inverse of the sum of squared shares. Of grids that are shifted by half
    a cell the one that is filled least. 0 for no pixels.

    Source: the inverse of Simpson's index, "Measurement of diversity" (1949).
    """
    if not len(pixels):
        return 0.0
    place = GRID * pixels / camera.size
    least = math.inf
    for x in (0.0, 0.5):
        for y in (0.0, 0.5):
            cell = (place + torch.tensor([x, y])).floor().clamp(0, GRID).long()
            counts = torch.bincount(cell[:, 1] * (GRID + 1) + cell[:, 0]).double()
            least = min(least, float(counts.sum() ** 2 / counts.square().sum()))
    return least
