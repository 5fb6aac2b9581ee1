"""Who sees the same points: covisibility between references, and visibility from a pose."""

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
        self._shared = (self._sees @ self._sees.T).tocsr()
        self._points = torch.from_numpy(model.points)
        poses = Pose.from_quaternion(model.quaternion, model.translation)
        self._axes = poses.rotation[:, 2].numpy()
        self._centres = poses.inverse().translation.numpy()

    def clusters(self, references: Sequence[int], min_shared: int = 1) -> list[list[int]]:
        """The references grouped by chains of covisibility, the largest group first.

        Within a group the given order is kept; of equal groups the one named first leads.
        """
        chosen = list(references)
        linked = self._shared[chosen][:, chosen] >= min_shared
        _, label = connected_components(linked, directed=False)
        groups: dict[int, list[int]] = {}
        for reference, group in zip(chosen, label.tolist(), strict=True):
            groups.setdefault(group, []).append(reference)
        return sorted(groups.values(), key=len, reverse=True)

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
