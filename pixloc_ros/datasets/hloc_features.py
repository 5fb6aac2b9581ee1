"""Local features and matches as hloc stores them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np

from pixloc_ros.datasets.text import ListError


def read_keypoints(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Keypoints (n, 2) float32 of each image, moved to where pixel centres are at 0.5.

    The file has a group an image, with the dataset `keypoints`. Raises ListError.
    """
    with _open(path) as file:
        found = {}
        for name in names:
            try:
                points = np.asarray(file[name]["keypoints"], np.float32)
            except (KeyError, ValueError, TypeError):
                raise ListError(f"{path}: no keypoints of {name}") from None
            if points.ndim != 2 or points.shape[1] < 2 or not np.isfinite(points).all():
                raise ListError(f"{path}: keypoints of {name}: not (n, 2) finite numbers")
            found[name] = points[:, :2] + np.float32(0.5)
    return found


def read_matches(
    path: Path, keypoints: dict[str, np.ndarray]
) -> dict[tuple[str, str], np.ndarray]:
    """Matches (m, 2) uint32 of the pairs of images of which the file has some.

    The file has a group a pair, `ONE/OTHER` with `-` for `/` in both (`ONE_OTHER` before 2021),
    with the dataset `matches0`: for each keypoint of the one that of the other, or -1. Raises
    ListError.
    """
    found = {}
    with _open(path) as file:
        for pair in combinations(keypoints, 2):
            for one, other in (pair, pair[::-1]):
                key = next((k for k in _keys(one, other) if k in file), None)
                if key is not None:
                    found[one, other] = _pairs(file, key, path, keypoints[one], keypoints[other])
                    break
    if not found:
        raise ListError(f"{path}: no matches between the images")
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
    except (KeyError, ValueError, TypeError):
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
