"""Which references see what is visible from a pose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.mapping import SparseModel


class Covisibility:
    """Observations of a map as a sparse R x P matrix, and what follows from it."""

    def __init__(self, model: SparseModel) -> None:
        ones = np.ones(len(model.observed), np.int32)
        self._sees = csr_matrix(
            (ones, model.observed, model.offsets), shape=(len(model.names), len(model.points))
        )
        self._points = torch.from_numpy(model.points)
        poses = Pose.from_quaternion(model.quaternion, model.translation)
        self._axes = poses.rotation[:, 2].numpy()
        self._centres = poses.inverse().translation.numpy()

    def visible_from(self, cam_from_map: Pose, camera: Camera, count: int) -> list[int]:
        """The references that best cover the view from one pose, best first.

        A reference counts the points it saw that project into the view, less as its viewing
        direction turns away (cosine) and its distance to those points differs.
        """
        _, valid = camera.project(cam_from_map.transform(self._points))
        covered = (self._sees @ valid.numpy().astype(np.int32)).astype(float)
        axis = cam_from_map.rotation[2].numpy()
        facing = np.clip(self._axes @ axis, 0.0, None)
        if valid.any():
            target = self._points[valid].mean(0).numpy()
            centre = cam_from_map.inverse().translation.numpy()
            here = np.linalg.norm(target - centre)
            there = np.linalg.norm(target - self._centres, axis=1)
            facing = facing * np.minimum(here, there) / np.maximum(np.maximum(here, there), 1e-9)
        score = covered * facing
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
