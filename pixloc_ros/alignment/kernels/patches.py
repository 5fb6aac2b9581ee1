"""Tracking of patches for processors: numba, one patch after the other, nothing of it written."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from pixloc_ros.alignment.kernels.compiled import threads, use_writable_cache

use_writable_cache(__file__)

_F = np.float32


@njit(parallel=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _track(image, patches, affine, start, limits, found, similarity):
    """As `patch_tracking.track_reference`. limits: its constants."""
    height, width = image.shape
    count, side = patches.shape[0], patches.shape[1]
    iterations = int(limits[0])
    reach, contrast, longest, still = limits[1], limits[2], limits[3], limits[4]
    half, size = _F(0.5) * _F(side - 1), side * side
    share = _F(1.0) / _F(size)
    for n in prange(count):
        template = np.empty(size, np.float32)
        slope_x, slope_y = np.empty(size, np.float32), np.empty(size, np.float32)
        values = np.empty(size, np.float32)
        found[n, 0], found[n, 1], similarity[n] = start[n, 0], start[n, 1], _F(-1.0)
        mean, squared = _F(0.0), _F(0.0)
        for i in range(side):
            for j in range(side):
                value = _F(patches[n, i, j])
                template[i * side + j] = value
                mean += value
        mean *= share
        for k in range(size):
            template[k] -= mean
            squared += template[k] * template[k]
        if not squared >= contrast * contrast * size:
            continue
        scale = _F(1.0) / _F(math.sqrt(squared))
        for k in range(size):
            template[k] *= scale
        mean_x, mean_y = _F(0.0), _F(0.0)
        for i in range(side):
            above, below = max(i - 1, 0), min(i + 1, side - 1)
            for j in range(side):
                left, right = max(j - 1, 0), min(j + 1, side - 1)
                k = i * side + j
                slope_x[k] = (template[i * side + right] - template[i * side + left]) / _F(
                    right - left
                )
                slope_y[k] = (template[below * side + j] - template[above * side + j]) / _F(
                    below - above
                )
                mean_x += slope_x[k]
                mean_y += slope_y[k]
        mean_x, mean_y = mean_x * share, mean_y * share
        along_x, along_y = _F(0.0), _F(0.0)
        for k in range(size):
            slope_x[k] -= mean_x
            slope_y[k] -= mean_y
            along_x += slope_x[k] * template[k]
            along_y += slope_y[k] * template[k]
        xx, xy, yy = _F(0.0), _F(0.0), _F(0.0)
        for k in range(size):
            slope_x[k] -= along_x * template[k]
            slope_y[k] -= along_y * template[k]
            xx += slope_x[k] * slope_x[k]
            xy += slope_x[k] * slope_y[k]
            yy += slope_y[k] * slope_y[k]
        determinant = xx * yy - xy * xy
        if not determinant > _F(1e-8):
            continue
        a, b, c, d = affine[n, 0, 0], affine[n, 0, 1], affine[n, 1, 0], affine[n, 1, 1]
        across = half * (abs(a) + abs(b))
        down = half * (abs(c) + abs(d))
        px, py = start[n, 0], start[n, 1]
        good, best = True, _F(-1.0)
        for iteration in range(iterations + 1):
            x0, y0 = px - _F(0.5), py - _F(0.5)
            if not (
                x0 - across >= _F(0.0)
                and y0 - down >= _F(0.0)
                and x0 + across < _F(width - 1)
                and y0 + down < _F(height - 1)
            ):
                good = False
                break
            mean, squared = _F(0.0), _F(0.0)
            for i in range(side):
                for j in range(side):
                    right, below = _F(j) - half, _F(i) - half
                    x, y = x0 + a * right + b * below, y0 + c * right + d * below
                    column, row = int(x), int(y)
                    fx, fy = x - _F(column), y - _F(row)
                    top = image[row, column] * (_F(1.0) - fx) + image[row, column + 1] * fx
                    bottom = (
                        image[row + 1, column] * (_F(1.0) - fx) + image[row + 1, column + 1] * fx
                    )
                    value = top * (_F(1.0) - fy) + bottom * fy
                    values[i * side + j] = value
                    mean += value
            mean *= share
            same, bx, by = _F(0.0), _F(0.0), _F(0.0)
            for k in range(size):
                value = values[k] - mean
                squared += value * value
                same += value * template[k]
                bx += value * slope_x[k]
                by += value * slope_y[k]
            if not squared >= _F(0.25) * contrast * contrast * size:
                good = False
                break
            scale = _F(1.0) / _F(math.sqrt(squared))
            best = same * scale
            if iteration == iterations:
                break
            ux = (yy * bx - xy * by) / determinant * scale
            uy = (xx * by - xy * bx) / determinant * scale
            length = _F(math.sqrt(ux * ux + uy * uy))
            if length > longest:
                ux, uy = ux * longest / length, uy * longest / length
            px -= a * ux + b * uy
            py -= c * ux + d * uy
            away_x, away_y = px - start[n, 0], py - start[n, 1]
            if not away_x * away_x + away_y * away_y <= reach * reach:
                good = False
                break
            if length < still and iteration > 0:
                break
        if good:
            found[n, 0], found[n, 1], similarity[n] = px, py, best


def track(
    image: np.ndarray,
    patches: np.ndarray,
    affine: np.ndarray,
    start: np.ndarray,
    limits: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Where patches are (N, 2), and their similarity there (N,)."""
    found, similarity = np.empty((len(start), 2), np.float32), np.empty(len(start), np.float32)
    with threads():
        _track(image, patches, affine, start, limits, found, similarity)
    return found, similarity


def compile_now() -> None:
    """Track a patch without structure."""
    one = np.zeros((1, 2), np.float32)
    affine = np.eye(2, dtype=np.float32)[None]
    patch = np.zeros((1, 3, 3), np.uint8)
    track(np.zeros((8, 8), np.float32), patch, affine, one, np.ones(5, np.float32))
