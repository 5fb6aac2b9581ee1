"""hloc's text formats: queries with intrinsics, poses, image pairs."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from pixloc_ros.datasets.text import (
    ListError,
    data_lines,
    finite_numbers,
    quoted,
    write_text,
)
from pixloc_ros.geometry import Camera, CameraError, Pose
from pixloc_ros.geometry.camera import MODELS
from pixloc_ros.left_out import LeftOut


def read_queries(path: str | os.PathLike[str]) -> dict[str, Camera]:
    """`name MODEL w h params...` lines, in the order of the file. Raises ListError."""
    queries: dict[str, Camera] = {}
    for where, fields in data_lines(path):
        if len(fields) < 5:
            raise ListError(f"{where}: expected 'name MODEL width height params...'")
        name, model, *rest = fields
        if model not in MODELS and any(field in MODELS for field in rest):
            raise ListError(f"{where}: a name with blanks stands in double quotes")
        width, height, *params = finite_numbers(where, rest).tolist()
        try:
            camera = Camera.from_colmap(model, width, height, params)
        except CameraError as error:
            raise ListError(f"{where}: {error}") from None
        if name in queries:
            raise ListError(f"{where}: {name} is listed twice")
        queries[name] = camera
    if not queries:
        raise ListError(f"{path}: no query in the list")
    return queries


def read_poses(path: str | os.PathLike[str], left_out: LeftOut | None = None) -> dict[str, Pose]:
    """`name qw qx qy qz tx ty tz` lines: cam_from_map, float64, shape (). Raises ListError.

    Numbers behind them (a focal length, as pseudo ground truth has it) are not read. left_out:
    counts lines of NaN, which trackers write for what they lost; without it they are an error.
    """
    poses: dict[str, Pose] = {}
    for where, fields in data_lines(path):
        if len(fields) < 8:
            raise ListError(f"{where}: expected 'name qw qx qy qz tx ty tz'")
        if left_out is not None and all(f.lower() in ("nan", "-nan") for f in fields[1:8]):
            left_out.add("without a pose (NaN)", where)
            continue
        numbers = finite_numbers(where, fields[1:])[:7]
        require_unit(where, numbers[:4], "name qw qx qy qz tx ty tz")
        if fields[0] in poses:
            raise ListError(f"{where}: {fields[0]} is listed twice")
        poses[fields[0]] = Pose.from_quaternion(numbers[:4], numbers[4:])
    return poses


def require_unit(where: str, quaternion: np.ndarray, order: str) -> None:
    """Raise ListError unless numbers are those of a rotation: those of another order are not."""
    norm = float(np.linalg.norm(quaternion))
    if abs(norm - 1) > 0.02:
        raise ListError(f"{where}: the quaternion's norm is {norm:.3g}, not 1; expected {order!r}")


def write_poses(path: str | os.PathLike[str], poses: Mapping[str, Pose]) -> None:
    """Write cam_from_map poses as `name qw qx qy qz tx ty tz`."""
    lines = []
    for name, pose in poses.items():
        numbers = [*pose.quaternion().tolist(), *pose.translation.tolist()]
        lines.append(" ".join([quoted(name), *(f"{v:.9g}" for v in numbers)]) + "\n")
    write_text(path, "".join(lines))


def read_pairs(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """`query reference` lines: for each query its references, best first. Raises ListError."""
    pairs: dict[str, list[str]] = {}
    for where, fields in data_lines(path):
        if len(fields) != 2:
            raise ListError(f"{where}: expected 'query reference'")
        pairs.setdefault(fields[0], []).append(fields[1])
    return pairs
