"""Which references see what is visible from a pose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.mapping import SparseModel

NEAREST = 4.0
"""Times that a point may be nearer than the median one and count for more."""


class Covisibility:
    """Observations of a map as a sparse R x P matrix, and what follows from it."""

    def __init__(self, model: SparseModel) -> None:
        ones = np.ones(len(model.observed), np.int32)
        self._sees = csr_matrix(
            (ones, model.observed, model.offsets), shape=(len(model.names), len(model.points))
        )
        self._points = torch.from_numpy(model.points)
        poses = Pose.from_quaternion(model.quaternion, model.translation)
        centres = poses.inverse().translation.numpy()
        rays = model.points[model.observed] - np.repeat(centres, np.diff(model.offsets), 0)
        self._observed, self._offsets = model.observed, model.offsets
        self._distances = np.maximum(np.linalg.norm(rays, axis=1), 1e-9)
        self._rays = rays / self._distances[:, None]

    def visible_from(self, cam_from_map: Pose, camera: Camera, count: int) -> list[int]:
        """The references that best cover the view from one pose, best first.

        A reference counts the points it saw that project into the view, each less as the two
        see it from other directions (cosine) and from other distances (their ratio, squared), and
        near ones more: what a point says of where the camera is goes by the inverse square of
        its distance.
        """
        _, valid = camera.project(cam_from_map.transform(self._points))
        there = self._points.numpy() - cam_from_map.inverse().translation.numpy()
        distance = np.maximum(np.linalg.norm(there, axis=1), 1e-9)
        there = there / distance[:, None] * valid.numpy()[:, None]
        alike = np.einsum("nk,nk->n", self._rays, there[self._observed]).clip(0.0)
        here = distance[self._observed]
        # squared: of half the size a point is a quarter as many pixels
        ratio = np.minimum(here, self._distances) / np.maximum(here, self._distances)
        alike *= ratio**2
        seen = valid.numpy()
        usual = np.median(distance[seen]) if seen.any() else 1.0
        alike *= np.minimum(usual / here, NEAREST) ** 2
        score = np.add.reduceat(np.append(alike, 0.0), self._offsets[:-1])
        score[np.diff(self._offsets) == 0] = 0.0
        order = np.argsort(-score, kind="stable")[:count]
        return [int(i) for i in order if score[i] > 0]

    def largest_cluster(self, references: Sequence[int]) -> list[int]:
        """The most of some references that are linked by points they share, in their order.

        Of clusters of the same size the one that begins first.
        """
        seen = self._sees[list(references)]
        _, label = connected_components(seen @ seen.T, directed=False)
        sizes = np.bincount(label)
        best = next(k for k in label if sizes[k] == sizes.max())
        return [r for r, k in zip(references, label, strict=True) if k == best]
