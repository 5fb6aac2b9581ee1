"""Local features and matches as hloc stores them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np

from pixloc_ros.datasets.text import ListError
from pixloc_ros.left_out import LeftOut


def read_keypoints(
    path: Path, names: Sequence[str], left_out: LeftOut | None = None
) -> dict[str, np.ndarray]:
    """Keypoints (n, 2) float32 of each image, moved to where pixel centres are at 0.5.

    The file has a group an image, with the dataset `keypoints`. left_out: counts images without
    any that can be used, unless these are half; without it they are an error. Raises ListError.
    """
    found = {}
    with _open(path) as file:
        for name in names:
            try:
                found[name] = _keypoints(file, path, name)
            except ListError as error:
                if left_out is None:
                    raise
                left_out.add("image without keypoints", str(error))
    if 2 * len(found) < len(names) and left_out is not None:
        raise ListError(f"{path}: {left_out.most}, of {len(names)} images")
    return found


def _keypoints(file: h5py.File, path: Path, name: str) -> np.ndarray:
    try:
        points = np.asarray(file[name]["keypoints"], np.float32)
    except (KeyError, ValueError, TypeError, OSError, RuntimeError):
        raise ListError(f"{path}: no keypoints of {name}") from None
    if points.ndim != 2 or points.shape[1] < 2 or not np.isfinite(points).all():
        raise ListError(f"{path}: keypoints of {name}: not (n, 2) finite numbers")
    return points[:, :2] + np.float32(0.5)


def read_matches(
    path: Path, keypoints: dict[str, np.ndarray], left_out: LeftOut | None = None
) -> dict[tuple[str, str], np.ndarray]:
    """Matches (m, 2) uint32 of the pairs of images of which the file has some.

    The file has a group a pair, `ONE/OTHER` with `-` for `/` in both (`ONE_OTHER` before 2021),
    with the dataset `matches0`: for each keypoint of the one that of the other, or -1. left_out:
    counts pairs that do not fit the keypoints; without it they are an error. Raises ListError.
    """
    found = {}
    with _open(path) as file:
        for pair in combinations(keypoints, 2):
            for one, other in (pair, pair[::-1]):
                key = next((k for k in _keys(one, other) if k in file), None)
                if key is None:
                    continue
                try:
                    found[one, other] = _pairs(file, key, path, keypoints[one], keypoints[other])
                except ListError as error:
                    if left_out is None:
                        raise
                    left_out.add("pair whose matches cannot be used", str(error))
                break
    if not found:
        why = f" ({left_out.most})" if left_out else ""
        raise ListError(f"{path}: no matches between the images{why}")
    return found


def _keys(one: str, other: str) -> tuple[str, ...]:
    """As hloc names a pair, its newest way first."""
    first, second = one.replace("/", "-"), other.replace("/", "-")
    return f"{first}/{second}", f"{first}_{second}"


def _pairs(
    file: h5py.File, key: str, path: Path, one: np.ndarray, other: np.ndarray
) -> np.ndarray:
    try:
        partner = np.asarray(file[key]["matches0"]).astype(np.int64)
    except (KeyError, ValueError, TypeError, OSError, RuntimeError):
        raise ListError(f"{path}: {key}: no matches0") from None
    if partner.shape != (len(one),) or partner.max(initial=-1) >= len(other):
        raise ListError(f"{path}: {key}: matches of other keypoints")
    first = np.flatnonzero(partner >= 0)
    return np.stack([first, partner[first]], 1).astype(np.uint32)


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise ListError(f"{path}: no such file")
    try:
        return h5py.File(path, "r")
    except OSError:
        raise ListError(f"{path}: truncated, or not an HDF5 file") from None
