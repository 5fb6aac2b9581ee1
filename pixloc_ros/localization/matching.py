"""Start poses without any idea of the pose: map points matched to the query, then PnP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pycolmap
import torch
import torch.nn.functional as F
from torch import Tensor

from pixloc_ros.alignment import average_observations
from pixloc_ros.fastest import Choice
from pixloc_ros.features import ImagePyramid, LevelMaps
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization.products import (
    PRODUCTS,
    Product,
    best_columns,
    choose_product,
    product_on,
)
from pixloc_ros.mapping import FeatureStore

MAX_CELLS = 5000
"""Cells of the query that are compared with every point; finer ones only around the best."""
AXES = 96
"""Of the space of features, along which candidates are found: those in which a map differs most
hold 99.5 % of what tells its points apart, and take a third of the time.
"""
SAMPLED = 8
"""References, and below rows of them, from which the axes are found."""
ROWS = 4096
REACH_PX = 12.0
"""Reprojection error of a match that RANSAC takes for an inlier, at 640 pixels of width."""
MIN_INLIERS = 12
TRIALS = 2000


@dataclass(frozen=True)
class Matches:
    """Points (n, 3) of the map, float64, and where the query seems to show them.

    pixels: (n, 2) in the image, float64.
    """

    points: Tensor
    pixels: Tensor

    def near(self, cam_from_map: Pose, camera: Camera) -> Tensor:
        """Which (n,) lie where a pose projects them, as near as RANSAC wants them."""
        pixels, valid = camera.project(cam_from_map.transform(self.points))
        return ((pixels - self.pixels).norm(dim=-1) < _reach(camera)) & valid


def _reach(camera: Camera) -> float:
    return REACH_PX * float(camera.size.max()) / 640


def _cells(count: int, step: int, device: torch.device) -> Tensor:
    return torch.arange(step // 2, count, step, device=device)


def _described(levels: Sequence[LevelMaps], rows: Tensor, columns: Tensor) -> Tensor:
    """Features of all levels (R * C, D) at rows (R,) and columns (C,) of cells of the last one,
    each level of equal weight.
    """
    finest = levels[-1]
    parts = []
    for maps in levels:
        if maps is finest:
            parts.append(maps.features[:, rows[:, None], columns].flatten(1).T)
            continue
        height, width = maps.features.shape[-2:]
        x = (columns + 0.5 + finest.offset) / finest.scale[0] * maps.scale[0] - maps.offset
        y = (rows + 0.5 + finest.offset) / finest.scale[1] * maps.scale[1] - maps.offset
        # from -1 to 1 across the map; outside of it its border goes on
        across, down = 2 * x / width - 1, 2 * y / height - 1
        grid = torch.stack([across.expand(len(y), -1), down[:, None].expand(-1, len(x))], -1)
        features = F.grid_sample(
            maps.features[None].float(),
            grid[None].float(),
            padding_mode="border",
            align_corners=False,
        )[0]
        parts.append(F.normalize(features.flatten(1).T, dim=-1))
    return torch.cat(parts, -1)


def mutual_best(
    known: Tensor, cells: Tensor, axes: Tensor | None = None, product: Product | None = None
) -> tuple[Tensor, Tensor]:
    """Pairs of rows of (N, D) and (M, D), unit norm, that are each other's most similar.

    Candidates are found along some axes (D, d), and told apart in all D. No row is in two pairs.
    """
    multiply = product or product_on(known.device)
    scores = multiply(known, cells) if axes is None else multiply(known @ axes, cells @ axes)
    best = best_columns(scores)
    # by its value: the largest down a column is much faster to find than where it is
    own = scores.gather(1, best[:, None])[:, 0]
    chosen = (own >= scores.amax(0)[best]).nonzero().flatten()
    best = best[chosen]
    similarity = (known[chosen] * cells[best]).sum(-1)
    top = similarity.new_full((len(cells),), -math.inf)
    kept = similarity == top.scatter_reduce(0, best, similarity, "amax")[best]
    return chosen[kept], best[kept]


class Matcher:
    """Matches what is seen with points of one map.

    limit: of points that are compared, those seen by most of the references.
    """

    def __init__(self, store: FeatureStore, references: int, limit: int) -> None:
        self._store, self._limit = store, limit
        self._sample = np.unique(np.linspace(0, references - 1, SAMPLED).round().astype(int))
        self.product = product_on(store.features[0].device)

    @cached_property
    def _axes(self) -> list[Tensor | None]:
        """By number of levels, the axes (D, d) along which features of the map differ most.

        Made of some of its references; None where there are not more axes than are wanted.
        """
        store, rows = self._store, self._rows(self._sample.tolist())
        widths = [table.shape[1] for table in store.features]
        rows = rows[:: max(len(rows) // ROWS, 1)].to(store.features[0].device)
        axes: list[Tensor | None] = [None]
        parts: list[Tensor] = []
        for level in range(len(widths)):
            parts.append(F.normalize(store.features[level].index_select(0, rows).float(), dim=-1))
            if sum(widths[: level + 1]) <= AXES:
                axes.append(None)
                continue
            sample = torch.cat(parts, -1).double()
            _, vectors = torch.linalg.eigh(sample.T @ sample)
            axes.append(vectors[:, -AXES:].float().contiguous())
        return axes

    def _rows(self, references: Sequence[int]) -> Tensor:
        store = self._store
        spans = zip(store.rows(references), store.counts(references), strict=True)
        return torch.cat([torch.arange(first, first + int(count)) for first, count in spans])

    def choose(self, levels: int, product: str = "auto") -> Choice | None:
        """Compare by what is fastest on this machine. None where there is no choice.

        product: one of `PRODUCTS` pins it.
        """
        if self._store.features[0].device.type != "cpu":
            return None
        if product != "auto":
            self.product = PRODUCTS[product]
            return None
        width = sum(table.shape[1] for table in self._store.features[:levels])
        choice = choose_product(self._limit, MAX_CELLS, min(width, AXES))
        self.product = PRODUCTS[choice.name]
        return choice

    def match(self, references: Sequence[int], pyramid: ImagePyramid) -> Matches:
        """The points of references that are each other's best match with a cell of the query.

        Features of all levels but the finest are compared together: the coarse ones tell places
        apart, the finer ones positions.
        """
        store = self._store
        count = max(len(pyramid.levels) - 1, 1)
        levels = pyramid.levels[:count]
        device = levels[-1].features.device
        axes = self._axes[count]
        held = self._rows(references)
        points, first, inverse, seen = np.unique(
            store.point[held].numpy(), return_index=True, return_inverse=True, return_counts=True
        )
        chosen_points = np.argsort(-seen, kind="stable")[: self._limit]
        place = np.full(len(points), -1)
        place[chosen_points] = np.arange(len(chosen_points))
        used = torch.from_numpy(place[inverse])
        rows, number = held[used >= 0].to(device), used[used >= 0].to(device)
        described = []
        for level in range(count):
            features = store.features[level].index_select(0, rows).float()
            confidence = store.confidence[level].index_select(0, rows).float()
            merged, _ = average_observations(
                features, confidence.clamp(min=1e-3), number, len(chosen_points)
            )
            described.append(F.normalize(merged, dim=-1))
        known = torch.cat(described, -1)

        maps = levels[-1]
        height, width = maps.features.shape[-2:]
        step = max(math.ceil(math.sqrt(height * width / MAX_CELLS)), 1)
        down, across = _cells(height, step, device), _cells(width, step, device)
        chosen, best = mutual_best(known, _described(levels, down, across), axes, self.product)
        row, column = down[best // len(across)], across[best % len(across)]

        # the finest of them again on every cell around, across which the others hardly differ
        around = torch.arange(-(step - 1), step, device=device)
        shift_y, shift_x = (s.flatten() for s in torch.meshgrid(around, around, indexing="ij"))
        y = (row[:, None] + shift_y).clamp(0, height - 1)
        x = (column[:, None] + shift_x).clamp(0, width - 1)
        near = maps.features.movedim(0, -1)[y, x]
        wanted = described[-1][chosen]
        nearest = (near.float() @ wanted[..., None]).squeeze(-1).argmax(-1)
        x, y = (v.gather(1, nearest[:, None])[:, 0] for v in (x, y))
        cells = torch.stack([x, y], -1).double() + 0.5 + maps.offset
        pixels = cells.cpu() / torch.tensor(maps.scale, dtype=torch.float64)
        found = held[torch.from_numpy(first[chosen_points])[chosen.cpu()]]
        return Matches(store.xyz[found], pixels)


@dataclass(frozen=True)
class MatchedView:
    """The matches of one camera of a rig, and where it is on it."""

    matches: Matches
    camera: Camera
    cam_from_rig: Pose


def poses_of_matches(views: Sequence[MatchedView], count: int) -> tuple[list[Pose], list[int]]:
    """Up to `count` rig_from_map poses that matches of all views agree on, and how many do, best
    first.

    Each is what RANSAC finds among the matches that the ones before left over: where a place
    looks like another, both are found. Later ones have at least half of the first one's inliers.
    Source: for several views, the generalized pose of Hee Lee et al., "Minimal solutions for
    pose estimation of a multi-camera system" (ISRR 2013), as COLMAP solves it.
    """
    parts = [_on_plane(view) for view in views]
    plane = np.concatenate([part.plane for part in parts])
    points = np.concatenate([part.points for part in parts])
    # near the origin, or a map in geographic coordinates would lose millimetres
    origin = points.mean(0) if len(points) else np.zeros(3)
    points = points - origin
    seen_by = np.repeat(np.arange(len(parts)), [len(part.plane) for part in parts])
    options = _estimation()

    def estimate(left: np.ndarray) -> tuple[Pose, int, np.ndarray] | None:
        cameras = np.unique(seen_by[left])
        if len(cameras) == 1:
            alone = int(cameras[0])
            answer = pycolmap.estimate_and_refine_absolute_pose(
                plane[left], points[left], parts[alone].pinhole, options
            )
            if answer is None:
                return None
            mount = views[alone].cam_from_rig
            pose = mount.inverse() @ _of_colmap(answer["cam_from_world"])
        else:
            answer = pycolmap.estimate_and_refine_generalized_absolute_pose(
                plane[left],
                points[left],
                seen_by[left].tolist(),
                [part.cam_from_rig for part in parts],
                [part.pinhole for part in parts],
                options.ransac,
            )
            if answer is None:
                return None
            pose = _of_colmap(answer["rig_from_world"])
        return pose, int(answer["num_inliers"]), np.asarray(answer["inlier_mask"], bool)

    poses: list[Pose] = []
    inliers: list[int] = []
    left: np.ndarray = np.arange(len(points))
    needed = float(MIN_INLIERS)
    while len(poses) < count and len(left) >= needed:
        found = estimate(left)
        if found is None or found[1] < needed:
            break
        local, agreeing, mask = found
        poses.append(local.with_origin(-torch.from_numpy(origin)))
        inliers.append(agreeing)
        needed = max(MIN_INLIERS, 0.5 * inliers[0])
        left = left[~mask]
    order = sorted(range(len(poses)), key=lambda k: -inliers[k])
    return [poses[k] for k in order], [inliers[k] for k in order]


RIVAL = 30
"""Matches that must agree on another pose for it to count against the first."""
APART = 0.03
"""Of the image's longer side: how far apart two poses show the points, at least, to be two."""


def rival(views: Sequence[MatchedView], poses: Sequence[Pose], agreeing: Sequence[int]) -> str:
    """Why the best of the poses that `poses_of_matches` found may not be it, or an empty string.

    Where half as many other matches agree on a pose elsewhere, the image shows two things that the
    map has elsewhere in relation to each other: a picture of the place, pieces of one, furniture
    that was moved, or a place that looks like another.
    """
    for other, count in zip(poses[1:], agreeing[1:], strict=True):
        if count < RIVAL:
            continue
        ways = []
        for view in views:
            shown = [
                view.camera.project((view.cam_from_rig @ pose).transform(view.matches.points))
                for pose in (poses[0], other)
            ]
            way = (shown[0][0] - shown[1][0]).norm(dim=-1) / view.camera.size.max()
            # what only one of them shows at all is as far apart as can be
            ways.append(torch.where(shown[0][1] & shown[1][1], way, torch.inf))
        if float(torch.cat(ways).median()) > APART:
            return (
                f"ambiguous: {agreeing[0]} matches agree with one pose, {count} others with "
                "another, elsewhere"
            )
    return ""


@dataclass(frozen=True)
class FocalGuess:
    """A pose cam_from_map with which most matches agree where the focal length is free.

    focal: by what that is multiplied. agreeing: matches that do. near: (n,) which.
    """

    cam_from_map: Pose
    focal: float
    agreeing: int
    near: Tensor


def guess_focal(view: MatchedView) -> FocalGuess | None:
    """What the matches of one camera say of its focal length, None where they say nothing.

    Source: the sampled focal lengths of COLMAP's absolute pose estimation.
    """
    part = _on_plane(view)
    if len(part.points) < MIN_INLIERS:
        return None
    origin = part.points.mean(0)
    options, given = _estimation(), float(part.pinhole.params[0])
    options.estimate_focal_length = True
    refinement = pycolmap.AbsolutePoseRefinementOptions()
    refinement.refine_focal_length = True
    answer = pycolmap.estimate_and_refine_absolute_pose(
        part.plane, part.points - origin, part.pinhole, options, refinement
    )
    if answer is None:
        return None
    focal = float(part.pinhole.params[0]) / given  # COLMAP has written the camera
    if not 0.2 < focal < 5.0:
        return None
    pose = _of_colmap(answer["cam_from_world"]).with_origin(-torch.from_numpy(origin))
    camera = replace(view.camera, focal=view.camera.focal * focal)
    near = view.matches.near(pose, camera)
    return FocalGuess(pose, focal, int(near.sum()), near)


def _estimation() -> pycolmap.AbsolutePoseEstimationOptions:
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error = REACH_PX
    options.ransac.min_num_trials, options.ransac.max_num_trials = 100, TRIALS
    options.ransac.random_seed = 0
    return options


@dataclass(frozen=True)
class _Plane:
    """What a view matched, as a pinhole without distortion sees it, at 640 pixels of width."""

    plane: np.ndarray
    points: np.ndarray
    pinhole: pycolmap.Camera
    cam_from_rig: pycolmap.Rigid3d


def _on_plane(view: MatchedView) -> _Plane:
    matches, camera = view.matches, view.camera
    rays, valid = camera.unproject(matches.pixels)
    valid = valid & (rays[:, 2] > 1e-3)
    focal = float(camera.focal.mean()) * REACH_PX / _reach(camera)
    plane = (focal * rays[:, :2] / rays[:, 2:].clamp(min=1e-3))[valid].numpy()
    w, x, y, z = view.cam_from_rig.quaternion().tolist()
    mount = pycolmap.Rigid3d(
        pycolmap.Rotation3d(np.array([x, y, z, w])), view.cam_from_rig.translation.numpy()
    )
    # the centre is at the origin
    pinhole = pycolmap.Camera(model="SIMPLE_PINHOLE", width=1, height=1, params=[focal, 0, 0])
    return _Plane(plane, matches.points[valid].numpy(), pinhole, mount)


def _of_colmap(pose: pycolmap.Rigid3d) -> Pose:
    x, y, z, w = pose.rotation.quat
    return Pose.from_quaternion([w, x, y, z], pose.translation)
