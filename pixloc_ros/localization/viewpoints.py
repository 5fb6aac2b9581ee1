"""Places that were looked from, so that one is not counted twice."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from itertools import product

import torch
from torch import Tensor

from pixloc_ros.geometry import Pose

APART_M, APART_DEG = 0.5, 15.0
"""Nearer to each other than both, two images are of one place."""


def of_one_place(cam_from_map: Pose, other: Pose) -> Tensor:
    """Whether poses (...) look from about the same place in about the same direction, (...) bool.

    Of a base as of a camera.
    """
    metres, radians = cam_from_map.distance(other)
    return (metres < APART_M) & (torch.rad2deg(radians) < APART_DEG)


class Viewpoints:
    """Places with directions, each remembered for `rest` seconds of stamps, which may jump."""

    def __init__(self, poses: Iterable[Pose] = (), rest: float = math.inf) -> None:
        self._rest = rest
        # by cells of APART_M: what is near lies in the same one or beside it
        self._cells: defaultdict[tuple[int, ...], list[tuple[Pose, float]]] = defaultdict(list)
        for pose in poses:
            self._cells[_cell(pose)].append((pose, 0.0))

    def enter(self, cam_from_map: Pose, stamp: float = 0.0) -> bool:
        """Whether a pose (batch shape ()) is at a new place, which is remembered from now on.

        stamp: seconds.
        """
        cell, near = _cell(cam_from_map), []
        for step in product((-1, 0, 1), repeat=3):
            beside = tuple(c + s for c, s in zip(cell, step, strict=True))
            if beside in self._cells:
                fresh = [e for e in self._cells[beside] if abs(stamp - e[1]) < self._rest]
                self._cells[beside] = fresh
                near += [pose for pose, _ in fresh]
        if near and bool(of_one_place(Pose.stack(near), cam_from_map).any()):
            return False
        self._cells[cell].append((cam_from_map, stamp))
        return True


def _cell(cam_from_map: Pose) -> tuple[int, ...]:
    centre = cam_from_map.inverse().translation
    return tuple(math.floor(c / APART_M) for c in centre.tolist())
