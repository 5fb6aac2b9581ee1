"""How much of an image is filled by what agrees with a pose."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.geometry import Camera

GRID = 4
"""Cells along a side of the image."""
ENOUGH = 8
"""Points of a cell that say what share of them agrees."""


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


def cells(pixels: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The cell (n,) of a grid of GRID x GRID over an image of some width and height (2,), in which
    each pixel (n, 2) lies.
    """
    column, row = np.clip(pixels / size * GRID, 0, GRID - 1).astype(int).T
    return row * GRID + column


def evenness(views: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> float:
    """How evenly what agrees lies among what could: the median over all cells of the share of
    their points that agree, in units of the share of all points. 1 where all parts agree alike, 0
    where less than half of them agree at all.

    views: of each, pixels (n, 2), which of them agree (n,) bool, and width and height (2,). Cells
    with fewer than ENOUGH points are left out.
    """
    shares, points, agreeing = [], 0, 0
    for pixels, agree, size in views:
        cell = cells(pixels, size)
        count = np.bincount(cell, minlength=GRID**2)
        found = np.bincount(cell, agree, minlength=GRID**2)
        known = count >= ENOUGH
        shares.append(found[known] / count[known])
        points, agreeing = points + len(pixels), agreeing + int(agree.sum())
    every = np.concatenate([*shares, np.zeros(0)])
    if not len(every) or not agreeing:
        return 0.0
    return float(np.median(every) * points / agreeing)
