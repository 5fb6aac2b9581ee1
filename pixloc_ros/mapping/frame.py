"""Where a model that COLMAP made lies: its frame made metric and upright."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import torch

from pixloc_ros.datasets.exif_gps import LEAST
from pixloc_ros.features import read_image
from pixloc_ros.geometry import Camera
from pixloc_ros.mapping.sparse_model import ModelError

SEED = 0

MARKERS = ("DICT_APRILTAG_36h11", "DICT_4X4_50", "DICT_5X5_100", "DICT_6X6_250")
"""Dictionaries of markers that are looked for."""

UNEVEN = 0.1
"""Share by which the sides of a marker may differ, as they come out."""


def to_positions(
    model: pycolmap.Reconstruction, positions: Mapping[str, np.ndarray]
) -> tuple[int, float]:
    """Move a model to where images are known to be, in metres.

    Returns how many of them agree, and their median distance from there, in metres. Raises
    ModelError where less than half do.
    """
    named = {image.name: image for image in model.images.values()}
    known = with_position(named, positions)
    places = np.array([positions[name] for name in known], float)
    flat = np.linalg.svd(places - places.mean(0), compute_uv=False)
    if flat[1] < 1e-3 * max(flat[0], 1e-12):
        raise ModelError("the known positions lie in a line, which leaves a rotation open")
    bound = 0.05 * float(np.linalg.norm(np.ptp(places, axis=0)))
    options = pycolmap.RANSACOptions(max_error=bound, random_seed=SEED)
    move = pycolmap.align_reconstruction_to_locations(model, known, places, LEAST, options)
    if move is not None:
        model.transform(move)
        centres = np.array([named[name].projection_center() for name in known])
        left = np.linalg.norm(centres - places, axis=1)
        agreeing = left[left <= bound]
    if move is None or len(agreeing) < max(LEAST, 0.5 * len(known)):
        raise ModelError("the known positions do not agree with the images")
    return len(agreeing), float(np.median(agreeing))


def with_position(names: Iterable[str], positions: Mapping[str, np.ndarray]) -> list[str]:
    """Those of the images whose position is known. Raises ModelError for less than `LEAST`."""
    known = [name for name in names if name in positions]
    if len(known) < LEAST:
        raise ModelError(f"{len(known)} images with a known position, {LEAST} are needed")
    return known


def scale_upright(model: pycolmap.Reconstruction, metres_per_unit: float) -> None:
    """Scale a model about the middle of its cameras, and turn what they hold upright to z."""
    poses = [image.cam_from_world() for image in model.images.values()]
    up = -np.mean([pose.rotation.matrix()[1] for pose in poses], axis=0)
    up /= max(float(np.linalg.norm(up)), 1e-9)
    axis = np.cross(up, [0.0, 0.0, 1.0])
    sine = float(np.linalg.norm(axis))
    angle = float(np.arctan2(sine, up[2]))
    axis = axis / sine if sine > 1e-9 else np.array([1.0, 0.0, 0.0])
    half = angle / 2
    turn = pycolmap.Rotation3d(np.array([*(axis * np.sin(half)), np.cos(half)]))
    middle = np.mean([image.projection_center() for image in model.images.values()], axis=0)
    shift = -metres_per_unit * (turn.matrix() @ middle)
    model.transform(pycolmap.Sim3d(metres_per_unit, turn, shift))


@dataclass(frozen=True)
class Marker:
    """A square marker. corners: (4, 2) by image, in COLMAP's pixels, from the upper left round."""

    name: str
    corners: Mapping[str, np.ndarray]


def find_marker(images: Path, names: Sequence[str]) -> Marker:
    """The marker that most images show. Raises ModelError where none is seen in two."""
    corners: dict[str, dict[str, np.ndarray]] = {}
    for image in names:
        for marker, pixels in _markers(read_image(images / image)).items():
            corners.setdefault(marker, {})[image] = pixels
    if not corners:
        raise ModelError(f"{images}: no image shows a marker ({', '.join(MARKERS)})")
    marker = max(sorted(corners), key=lambda name: len(corners[name]))
    if len(corners[marker]) < 2:
        raise ModelError(f"{images}: only one image shows marker {marker}")
    return Marker(marker, corners[marker])


def to_marker(model: pycolmap.Reconstruction, marker: Marker, side: float) -> int:
    """Move a model so that a marker is its origin: x along its upper edge, y up its left one, z
    out of it. side: of the black square, in metres.

    Returns in how many of its images it is seen. Raises ModelError where it is not seen well.
    """
    views = [
        (image, marker.corners[image.name])
        for image in model.images.values()
        if image.name in marker.corners
    ]
    if len(views) < 2:
        raise ModelError(f"{len(views)} of the images that show marker {marker.name} have a pose")
    square = _triangulate(model, views)
    edges = np.linalg.norm(square - np.roll(square, -1, axis=0), axis=1)
    if np.ptp(edges) > UNEVEN * edges.mean():
        raise ModelError(
            f"marker {marker.name} comes out with sides of {edges.min():.3g} to "
            f"{edges.max():.3g}: more images of it, from nearer, are needed"
        )
    # corners go round from the upper left one
    upper_left, upper_right, lower_right, lower_left = square
    right = upper_right - upper_left + lower_right - lower_left
    up = upper_left - lower_left + upper_right - lower_right
    x = right / np.linalg.norm(right)
    z = np.cross(x, up)
    z /= np.linalg.norm(z)
    turn = np.stack([x, np.cross(z, x), z])
    scale = side / float(edges.mean())
    shift = -scale * (turn @ square.mean(0))
    model.transform(pycolmap.Sim3d(scale, pycolmap.Rotation3d(turn), shift))
    return len(views)


def _markers(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """Corners (4, 2) of the markers in an image, COLMAP's pixels."""
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    options = cv2.aruco.DetectorParameters()
    options.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    found = {}
    for name in MARKERS:
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
        squares, numbers, _ = cv2.aruco.ArucoDetector(dictionary, options).detectMarkers(gray)
        for square, number in zip(
            squares, [] if numbers is None else numbers.ravel(), strict=True
        ):
            label = f"{number} of {name.removeprefix('DICT_')}"
            found[label] = square.reshape(4, 2).astype(np.float64) + 0.5
    return found


def _triangulate(
    model: pycolmap.Reconstruction, views: Sequence[tuple[pycolmap.Image, np.ndarray]]
) -> np.ndarray:
    """Points (4, 3) nearest to the rays to the corners in all views."""
    normal, right = np.zeros((4, 3, 3)), np.zeros((4, 3))
    for image, pixels in views:
        entry = model.cameras[image.camera_id]
        params = list(map(float, entry.params))
        camera = Camera.from_colmap(entry.model.name, entry.width, entry.height, params)
        rays = camera.unproject(torch.from_numpy(pixels))[0].numpy()
        rays = rays @ image.cam_from_world().rotation.matrix()
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        across = np.eye(3) - rays[:, :, None] * rays[:, None]
        normal += across
        right += across @ image.projection_center()
    return np.linalg.solve(normal, right[..., None])[..., 0]
