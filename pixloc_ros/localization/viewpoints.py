"""Places that were looked from, so that one is not counted twice."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from pixloc_ros.geometry import Pose

APART_M, APART_DEG = 0.5, 15.0
"""Nearer to each other than both, two images are of one place."""


class Viewpoints:
    """Places with directions, each remembered for `rest` seconds of stamps, which may jump."""

    def __init__(self, poses: Iterable[Pose] = (), rest: float = math.inf) -> None:
        self._rest = rest
        self._known = [(pose, 0.0) for pose in poses]

    def enter(self, cam_from_map: Pose, stamp: float = 0.0) -> bool:
        """Whether a pose (batch shape ()) is at a new place, which is remembered from now on.

        stamp: seconds.
        """
        self._known = [(pose, at) for pose, at in self._known if abs(stamp - at) < self._rest]
        if self._known:
            poses = Pose.stack([pose for pose, _ in self._known])
            metres, radians = poses.distance(cam_from_map)
            if bool(((metres < APART_M) & (torch.rad2deg(radians) < APART_DEG)).any()):
                return False
        self._known.append((cam_from_map, stamp))
        return True
