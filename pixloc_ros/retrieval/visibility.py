"""Which references see what is visible from a pose, in maps that do not fit into memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.mapping import PixMap
from pixloc_ros.retrieval.covisibility import Covisibility

NEAR = 512
"""References around a pose that are asked what they see."""

HELD = 4
"""Neighbourhoods that are kept in memory."""


@dataclass(frozen=True)
class _Neighbourhood:
    """References (n,) around a place (3,), good for poses up to `reach` metres from it."""

    place: np.ndarray
    reach: float
    references: np.ndarray
    covisibility: Covisibility


class VisibilityIndex:
    """Covisibility of the references that stand nearest to a pose, read where it is needed."""

    def __init__(self, pixmap: PixMap) -> None:
        self._map = pixmap
        self._tree = cKDTree(pixmap.centres()) if len(pixmap) > NEAR else None
        self._held: OrderedDict[int, _Neighbourhood] = OrderedDict()
        self._made = 0

    def visible_from(self, cam_from_map: Pose, camera: Camera, count: int) -> list[int]:
        """As `Covisibility.visible_from`, among the references around the pose."""
        near = self._around(cam_from_map.inverse().translation.numpy())
        found = near.covisibility.visible_from(cam_from_map, camera, count)
        return near.references[found].tolist()

    def _around(self, place: np.ndarray) -> _Neighbourhood:
        for number, held in self._held.items():
            if np.linalg.norm(place - held.place) <= held.reach:
                self._held.move_to_end(number)
                return held
        if self._tree is None:
            references, reach = np.arange(len(self._map)), np.inf
        else:
            metres, nearest = (np.asarray(v) for v in self._tree.query(place, NEAR))
            # from a third of the way on, the nearest of there are still half of these
            references, reach = np.sort(nearest), float(metres[-1]) / 3
        made = _Neighbourhood(place, reach, references, Covisibility(self._map.part(references)))
        self._made += 1
        self._held[self._made] = made
        if len(self._held) > HELD:
            self._held.popitem(last=False)
        return made
