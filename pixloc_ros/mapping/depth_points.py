"""Points from depth images, where a model has none: on what SIFT does not find twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from pixloc_ros.geometry import Pose
from pixloc_ros.mapping.sparse_model import ModelError, SparseModel

CELL_PX = 24
"""An image is divided into cells of this size; one with a point in it gets no other."""

AGREEMENT = 0.03
"""Share by which the depth of another image may differ where it shows a point."""

Depth = Callable[[str], np.ndarray | None]
"""Metres (H, W) along the optical axis, 0 or NaN for none, of an image by name; or None."""

Gray = Callable[[str], np.ndarray]


def add_depth_points(model: SparseModel, depth_of: Depth, gray_of: Gray) -> SparseModel:
    """The model with a point in each empty cell of its images whose depth is known, at its
    strongest corner, and who else sees it.

    depth_of: registered to the images, of their size. gray_of: (H, W) uint8.
    Raises ModelError for a depth image of another size.
    """
    seen = [model.observed[a:b].tolist() for a, b in _rows(model)]
    points = [model.points]
    count = len(model.points)
    depths: dict[int, np.ndarray] = {}
    taken: dict[int, np.ndarray] = {}
    for number, name in enumerate(model.names):
        depth = depth_of(name)
        if depth is None:
            continue
        entry = model.cameras[model.camera_index[number]]
        if depth.shape != (entry.height, entry.width):
            raise ModelError(
                f"{name}: depth of {depth.shape[1]} x {depth.shape[0]} pixels, its camera has "
                f"{entry.width} x {entry.height}"
            )
        depths[number] = np.nan_to_num(depth, posinf=0.0, neginf=0.0).astype(np.float32)
        own = torch.from_numpy(model.points[seen[number]])
        pixels, visible = _project(model, number, own)
        taken[number] = np.zeros(-(-np.array(depth.shape) // CELL_PX), bool)
        _occupy(taken[number], pixels[visible])
    for number in depths:
        new = _corners(model, number, depths[number], gray_of(model.names[number]), taken[number])
        if not len(new):
            continue
        points.append(new.numpy())
        for other, depth in depths.items():
            pixels, visible = _project(model, other, new)
            column, row = (pixels.nan_to_num().long().clamp(min=0)).unbind(-1)
            row, column = row.clamp(max=depth.shape[0] - 1), column.clamp(max=depth.shape[1] - 1)
            measured = torch.from_numpy(depth)[row, column]
            away = model.pose(other).transform(new)[:, 2]
            agrees = visible & (measured > 0) & ((measured - away).abs() < AGREEMENT * away)
            seen[other] += (count + agrees.nonzero().flatten()).tolist()
            _occupy(taken[other], pixels[agrees])
        count += len(new)
    observed = np.concatenate([np.array(rows, np.int64) for rows in seen])
    return replace(
        model,
        points=np.concatenate(points),
        track_length=np.bincount(observed, minlength=count).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(rows) for rows in seen])]).astype(np.int64),
        observed=observed.astype(np.int32),
    )


def _rows(model: SparseModel) -> Iterator[tuple[int, int]]:
    return zip(model.offsets[:-1].tolist(), model.offsets[1:].tolist(), strict=True)


def _project(model: SparseModel, number: int, points: Tensor) -> tuple[Tensor, Tensor]:
    camera = model.cameras[model.camera_index[number]].camera()
    return camera.project(model.pose(number).transform(points))


def _occupy(taken: np.ndarray, pixels: Tensor) -> None:
    cells = (pixels / CELL_PX).long().numpy()
    taken[cells[:, 1], cells[:, 0]] = True


def _corners(
    model: SparseModel, number: int, depth: np.ndarray, gray: np.ndarray, taken: np.ndarray
) -> Tensor:
    """Points (n, 3), map frame, at the best corner with depth of each cell that is not taken."""
    strength = cv2.cornerMinEigenVal(gray, 5)
    strength[~(depth > 0)] = -1.0
    pixels, metres = [], []
    for row, column in zip(*np.nonzero(~taken), strict=True):
        top, left = row * CELL_PX, column * CELL_PX
        cell = strength[top : top + CELL_PX, left : left + CELL_PX]
        y, x = np.unravel_index(int(cell.argmax()), cell.shape)
        if cell[y, x] > 0:
            pixels.append((left + x + 0.5, top + y + 0.5))
            metres.append(depth[top + y, left + x])
    if not pixels:
        return torch.zeros(0, 3, dtype=torch.float64)
    camera = model.cameras[model.camera_index[number]].camera()
    rays, _ = camera.unproject(torch.tensor(pixels, dtype=torch.float64))
    along = torch.tensor(metres, dtype=torch.float64)[:, None]
    pose: Pose = model.pose(number)
    return pose.inverse().transform(rays / rays[:, 2:] * along)
