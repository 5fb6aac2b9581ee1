"""From references of the map to the problems that alignment solves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pixloc_ros.alignment import AlignmentProblem, QueryMap
from pixloc_ros.features import ImagePyramid
from pixloc_ros.geometry import Camera, Pose, RobustKernel
from pixloc_ros.mapping import PixMap, ReferenceFeatures

MARGIN = 0.125
"""Part of the image's size by which points may lie outside the view of a start."""


@dataclass(frozen=True)
class QueryLevels:
    """The query at every level of the map: feature tables and scaled cameras, coarse to fine."""

    tables: tuple[QueryMap, ...]
    cameras: tuple[Camera, ...]

    @classmethod
    def of(cls, pyramid: ImagePyramid, camera: Camera) -> QueryLevels:
        return cls(
            tuple(QueryMap.of(m.features, m.confidence) for m in pyramid.levels),
            tuple(m.camera(camera).to(m.features) for m in pyramid.levels),
        )


@dataclass(frozen=True)
class Observations:
    """What N observations of map points by references look like.

    points: (N, 3) float32 relative to `origin` (3,), which keeps maps in geographic
    coordinates precise. features[i]: (N, C_i); confidence[i]: (N,), zero where a level cannot
    be used; i as the map's levels.
    """

    origin: Tensor
    points: Tensor
    features: tuple[Tensor, ...]
    confidence: tuple[Tensor, ...]

    def problem(self, query: QueryLevels, level: int, kernel: RobustKernel) -> AlignmentProblem:
        confidence = self.confidence[level]
        return AlignmentProblem(
            query.tables[level],
            query.cameras[level],
            self.points[None],
            self.features[level][None],
            confidence[None],
            (confidence > 0)[None],
            kernel,
        )

    def around(self, origin: Tensor) -> Observations:
        """The same, relative to another origin."""
        shift = (self.origin - origin).to(self.points.device)
        return replace(self, origin=origin, points=(self.points + shift).to(self.points.dtype))

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
    pixmap: PixMap,
    references: Sequence[int],
    starts: Pose,
    camera: Camera,
    limit: int,
    device: torch.device,
) -> Observations:
    """What references saw of the surroundings of the views from starts (B,) cam_from_map.

    camera: of the query, batch shape (). Observations of a point by several references stay
    apart. Of more than `limit`, an even share of each reference is kept.
    """
    width, height = camera.size.tolist()
    left, top = MARGIN * width, MARGIN * height
    wider = camera.crop(-left, -top, width + 2 * left, height + 2 * top)
    loaded = [pixmap.reference(r) for r in references]
    seen = []
    for reference in loaded:
        _, valid = wider.project(starts.transform(pixmap.points[reference.points]))
        seen.append(valid.reshape(-1, len(reference.points)).any(0).nonzero().flatten())
    total = sum(len(s) for s in seen)
    if total > limit:
        seen = [
            s[
                torch.linspace(
                    0, max(len(s) - 1, 0), min(len(s), max(limit * len(s) // total, 1))
                ).long()
            ]
            for s in seen
        ]

    def numbers(field: Callable[[ReferenceFeatures], Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """A field of every level, as the optimizer wants it."""
        levels = range(len(pixmap.header.levels))
        return tuple(
            torch.cat([field(r)[level][kept] for r, kept in zip(loaded, seen, strict=True)])
            .to(device)
            .float()
            for level in levels
        )

    numbered = [r.points[kept] for r, kept in zip(loaded, seen, strict=True)]
    points = pixmap.points[torch.cat(numbered)]
    origin = points.mean(0) if len(points) else torch.zeros(3, dtype=torch.float64)
    return Observations(
        origin=origin,
        points=(points - origin).float().to(device),
        features=numbers(lambda r: r.features),
        confidence=numbers(lambda r: r.confidence),
    )
