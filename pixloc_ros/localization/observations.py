"""Which observations of the map a query is aligned with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.mapping import FeatureStore

MARGIN = 0.125
"""Part of the image's size by which points may lie outside the view of a start."""


@dataclass(frozen=True)
class Observations:
    """N observations of map points by references.

    points: (N, 3) float64, map frame. rows: (N,) of the feature store. point, reference: (N,)
    indices of the map.
    """

    points: Tensor
    rows: Tensor
    point: np.ndarray
    reference: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class LocalFrame:
    """The map's axes about an origin (3,) near the points, float64.

    Single precision is enough there, whatever the coordinates of the map.
    """

    origin: Tensor

    @classmethod
    def around(cls, points: Tensor) -> LocalFrame:
        """About the mean of points (N, 3)."""
        return cls(points.mean(0) if len(points) else torch.zeros(3, dtype=torch.float64))

    def from_map(self, cam_from_map: Pose) -> Pose:
        """cam_from_local of float64 poses, single precision."""
        return cam_from_map.with_origin(self.origin).to(torch.float32)

    def to_map(self, cam_from_local: Pose) -> Pose:
        """Inverse of `from_map`, float64, with the rotation made orthonormal again."""
        pose = cam_from_local.to(torch.float64)
        pose = Pose.from_quaternion(pose.quaternion(), pose.translation)
        return pose.with_origin(-self.origin)


def gather(
    store: FeatureStore,
    references: Sequence[int],
    starts: Pose,
    camera: Camera,
    limit: int,
) -> Observations:
    """What references saw of the surroundings of the views from starts (B,) cam_from_map.

    camera: of the query, batch shape (). No references give no observations, as for a camera of
    a rig that sees nothing of the map. Observations of a point by several references stay apart.
    Of more than `limit`, an even share of each reference is kept.
    """
    width, height = camera.size.tolist()
    left, top = MARGIN * width, MARGIN * height
    wider = camera.crop(-left, -top, width + 2 * left, height + 2 * top)
    counts = store.counts(references)
    # the observations of all references, one after the other
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    begin = np.asarray(store.rows(references), np.int64) - first[:-1]
    rows = torch.from_numpy(np.repeat(begin, np.asarray(counts, np.int64)) + np.arange(first[-1]))
    points = store.xyz[rows]
    _, valid = wider.project(starts.transform(points))
    seen = np.flatnonzero(valid.flatten(end_dim=-2).any(0).numpy())
    if len(seen) > limit:
        share = np.searchsorted(seen, first)
        kept = [
            seen[begin:end][
                np.linspace(0, end - begin - 1, max(limit * (end - begin) // len(seen), 1)).astype(
                    np.int64
                )
            ]
            for begin, end in pairwise(share)
            if end > begin
        ]
        seen = np.concatenate(kept)
    chosen = torch.from_numpy(seen)
    return Observations(
        points[chosen],
        rows[chosen],
        store.point[rows[chosen]].numpy(),
        np.repeat(np.asarray(references, np.int64), np.asarray(counts, np.int64))[seen],
    )
