"""From an aligned pose to a more exact one: where the image shows patches of the references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.alignment import (
    ReprojectionFit,
    SeenPoints,
    fit_reprojections,
    track_patches,
)
from pixloc_ros.features import grey_camera
from pixloc_ros.geometry import Pose
from pixloc_ros.localization.observations import LocalFrame, Observations, gather
from pixloc_ros.localization.spread import spread
from pixloc_ros.localization.views import Query
from pixloc_ros.mapping import FeatureStore, PixMap

SIMILAR = 0.7
"""Correlation from which a patch is found."""
FEWEST = 30
"""Patches that must be found for a pose of their own."""
AGREEING_PX = 2.0
"""Largest residual of a patch that agrees with the pose of all."""
CHANCE = 0.1
"""Share of patches that agree with some pose or other where the image shows something else."""
STRETCH = 4.0
"""Largest change of area between a reference and the query with which patches are compared."""


@dataclass(frozen=True)
class PatchFit:
    """The pose that the found patches say, and what it rests on.

    fit: of the found ones of all `views`, in a `frame` near them. agreeing: points that
    were found where the pose projects them. share: of the patches that were looked for. spread:
    of those over the image of the view with most, see `spread`.
    """

    rig_from_map: Pose
    fit: ReprojectionFit
    views: tuple[SeenPoints, ...]
    frame: LocalFrame
    agreeing: int
    share: float
    spread: float


class PatchRefinement:
    """Finds patches of the references of one map around an aligned pose.

    limit: of patches, for all views together; 0 looks for none.
    """

    def __init__(self, pixmap: PixMap, store: FeatureStore, limit: int) -> None:
        self._map, self._store, self._limit = pixmap, store, limit
        self._cameras = [grey_camera(c.to("cpu", torch.float64)) for c in pixmap.cameras]

    def wanted(self) -> bool:
        return self._limit > 0 and len(self._store.patches) > 0

    def fit(
        self, queries: Sequence[Query], references: Sequence[Sequence[int]], rig_from_map: Pose
    ) -> tuple[int, PatchFit | None]:
        """How many patches were looked for, and the pose (float64) that they say, None where too
        few agree.

        references: of each view, as they were aligned with.
        """
        self._store.rows([r for seen in references for r in seen])
        observed = [
            gather(
                self._store,
                seen,
                (query.cam_from_rig @ rig_from_map)[None],
                query.camera,
                self._limit // len(queries),
            )
            for query, seen in zip(queries, references, strict=True)
        ]
        frame = LocalFrame.around(torch.cat([o.points for o in observed]))
        sought, views = 0, []
        for query, seen in zip(queries, observed, strict=True):
            count, view = self._track(query, seen, query.cam_from_rig @ rig_from_map, frame)
            sought += count
            views.append(view)
        counts = [len(view.points) for view in views]
        if sum(counts) < FEWEST:
            return sought, None
        fit = fit_reprojections(views, rig_from_map.with_origin(frame.origin))
        good = fit.residuals < AGREEING_PX
        agree = int(good.sum()) / sought
        if agree < CHANCE:
            return sought, None
        share = torch.cat([view.share for view in views])
        return sought, PatchFit(
            fit.rig_from_map.with_origin(-frame.origin),
            fit,
            tuple(views),
            frame,
            int((share * good).sum().round()),
            agree,
            max(
                spread(view.pixels[found], view.camera)
                for view, found in zip(views, good.split(counts), strict=True)
            ),
        )

    def _track(
        self, query: Query, seen: Observations, cam_from_map: Pose, frame: LocalFrame
    ) -> tuple[int, SeenPoints]:
        camera = grey_camera(query.camera)
        pixels, to_pixels, valid = camera.project_with_jacobian(
            cam_from_map.transform(seen.points)
        )
        affine, possible = self._affine(seen, cam_from_map, to_pixels)
        patches = self._store.patches[seen.rows]
        # references of an older map that was merged with this one have none
        known = patches.flatten(1).any(1)
        chosen = (valid & possible & known).nonzero().flatten()
        tracks = track_patches(
            query.grey,
            patches[chosen],
            affine[chosen].float().contiguous(),
            pixels[chosen].float().contiguous(),
        )
        found = tracks.similarity > SIMILAR
        _, same, times = np.unique(
            seen.point[chosen.numpy()][found.numpy()], return_inverse=True, return_counts=True
        )
        view = SeenPoints(
            seen.points[chosen][found] - frame.origin,
            tracks.pixels[found].double(),
            torch.from_numpy(1.0 / times[same]),
            camera,
            query.cam_from_rig,
        )
        return len(chosen), view

    def _affine(
        self, seen: Observations, cam_from_map: Pose, to_pixels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """From pixels of each reference to those of the query (N, 2, 2), and where that is
        possible (N,).

        As if points lay on a plane that faces the reference: what moves in it by one metre moves
        in both images, which the projections' Jacobians (N, 2, 3) say.
        """
        pixmap = self._map
        poses = Pose.from_quaternion(
            pixmap.quaternion[seen.reference], pixmap.translation[seen.reference]
        )
        there = poses.transform(seen.points[:, None])[:, 0]
        known = torch.zeros_like(to_pixels)
        used = pixmap.camera_index[seen.reference]
        for number in np.unique(used):
            rows = torch.from_numpy(np.flatnonzero(used == number))
            known[rows] = self._cameras[number].project_with_jacobian(there[rows])[1]
        # two directions at right angles to the ray, in the frame of the reference
        ray = torch.nn.functional.normalize(there, dim=-1)
        side = torch.tensor([0.0, 1.0, 0.0], dtype=ray.dtype).expand_as(ray)
        side = torch.where(ray[:, 1:2].abs() > 0.9, side.roll(1, -1), side)
        one = torch.nn.functional.normalize(torch.linalg.cross(ray, side), dim=-1)
        plane = torch.stack([one, torch.linalg.cross(ray, one)], -1)
        turn = cam_from_map.rotation @ poses.rotation.transpose(-1, -2)
        before, after = known @ plane, to_pixels @ turn @ plane
        determinant = torch.linalg.det(before)
        possible = determinant.abs() > 1e-9
        eye = torch.eye(2, dtype=before.dtype)
        safe = torch.where(possible[:, None, None], before, eye)
        affine = after @ torch.linalg.inv(safe)
        area = torch.linalg.det(affine)
        return affine, possible & (area > 1 / STRETCH) & (area < STRETCH)
