"""From references of the map to the problems that alignment solves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pixloc_ros.alignment import AlignmentProblem, query_table
from pixloc_ros.features import ImagePyramid
from pixloc_ros.geometry import Camera, FeatureTable, Pose, RobustKernel
from pixloc_ros.mapping import PixMap, ReferenceFeatures


@dataclass(frozen=True)
class QueryLevels:
    """The query at every level of the map: feature tables and scaled cameras, coarse to fine."""

    tables: tuple[FeatureTable, ...]
    cameras: tuple[Camera, ...]

    @classmethod
    def of(cls, pyramid: ImagePyramid, camera: Camera) -> QueryLevels:
        return cls(
            tuple(query_table(m.features, m.confidence) for m in pyramid.levels),
            tuple(m.camera(camera).to(m.features) for m in pyramid.levels),
        )


@dataclass(frozen=True)
class Observations:
    """References of B hypotheses, padded to the same number N of points.

    points: (B, N, 3) float32 relative to `origin` (3,), which keeps maps in geographic
    coordinates precise. features[i]: (B, N, C_i); confidence[i]: (B, N), zero where a level
    cannot be used; i as the map's levels.
    """

    origin: Tensor
    points: Tensor
    features: tuple[Tensor, ...]
    confidence: tuple[Tensor, ...]
    mask: Tensor

    def problem(self, query: QueryLevels, level: int, kernel: RobustKernel) -> AlignmentProblem:
        confidence = self.confidence[level]
        return AlignmentProblem(
            query.tables[level],
            query.cameras[level],
            self.points,
            self.features[level],
            confidence,
            self.mask & (confidence > 0),
            kernel,
        )

    def to_local(self, cam_from_map: Pose) -> Pose:
        """A float64 pose relative to `origin`, as float32 on the points' device."""
        shifted = cam_from_map.transform(self.origin.expand(*cam_from_map.shape, 1, 3))[..., 0, :]
        return Pose(cam_from_map.rotation, shifted).to(self.points)

    def to_map(self, cam_from_local: Pose) -> Pose:
        """Inverse of `to_local`, with the rotation made orthonormal again."""
        pose = cam_from_local.to("cpu", torch.float64)
        pose = Pose.from_quaternion(pose.quaternion(), pose.translation)
        moved = (pose.rotation @ -self.origin[:, None]).squeeze(-1) + pose.translation
        return Pose(pose.rotation, moved)


def gather(
    pixmap: PixMap, groups: Sequence[Sequence[int]], limit: int, device: torch.device
) -> Observations:
    """Observations of one group of references per hypothesis, at most `limit` points each.

    Observations of a point by several references stay apart. Of too many, an even share of
    each reference is kept.
    """
    rows = []
    for group in groups:
        loaded = [pixmap.reference(r) for r in group]
        total = sum(len(r.points) for r in loaded)
        kept = []
        for r in loaded:
            count = len(r.points) if total <= limit else max(limit * len(r.points) // total, 1)
            kept.append(
                torch.linspace(0, max(len(r.points) - 1, 0), min(count, len(r.points))).long()
            )
        rows.append((loaded, kept))
    longest = max(1, *(sum(len(k) for k in kept) for _, kept in rows))

    def stack(parts: list[list[Tensor]]) -> Tensor:
        """The parts of each hypothesis joined and padded to the longest: (B, N, ...)."""
        joined = [torch.cat(tensors) for tensors in parts]
        filled = joined[0].new_zeros(len(joined), longest, *joined[0].shape[1:])
        for row, tensor in zip(filled, joined, strict=True):
            row[: len(tensor)] = tensor
        return filled.to(device)

    def picked(field: Callable[[ReferenceFeatures], Tensor]) -> list[list[Tensor]]:
        return [[field(r)[k] for r, k in zip(*row, strict=True)] for row in rows]

    def features(level: int) -> Tensor:
        return stack(picked(lambda r: r.features[level])).float()

    def confidence(level: int) -> Tensor:
        return stack(picked(lambda r: r.confidence[level])).float()

    points = [[pixmap.points[index] for index in row] for row in picked(lambda r: r.points)]
    used = torch.cat([p for row in points for p in row])
    origin = used.mean(0) if len(used) else torch.zeros(3, dtype=torch.float64)
    levels = range(len(pixmap.header.levels))
    return Observations(
        origin=origin,
        points=stack([[(p - origin).float() for p in row] for row in points]),
        features=tuple(features(i) for i in levels),
        confidence=tuple(confidence(i) for i in levels),
        mask=stack([[torch.ones(len(p), dtype=torch.bool) for p in row] for row in points]),
    )
