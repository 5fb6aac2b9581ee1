"""Recorded image sequences with odometry, in the layout of hloc lists plus trajectories.

queries_with_intrinsics.txt   name MODEL width height params...
gt_poses.txt                  name qw qx qy qz tx ty tz      (camera from map; optional)
timestamps.txt                name seconds                   (optional)
odometry_sim.txt              seconds tx ty tz qx qy qz qw   (odom from camera; optional)
images/, sparse/              the images and the COLMAP model of the references
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixloc_ros.datasets.hloc_lists import read_poses, read_queries, require_unit
from pixloc_ros.datasets.text import ListError, data_lines, finite_numbers, write_text
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.sensors.pose_series import known_between


@dataclass(frozen=True)
class SequenceImage:
    """One image of a sequence. stamp: seconds. truth: cam_from_map."""

    name: str
    stamp: float
    camera: Camera
    truth: Pose | None


@dataclass(frozen=True)
class Sequence:
    """frames in the order of their stamps; odometry: odom_from_cam by stamp, maybe empty."""

    root: Path
    frames: tuple[SequenceImage, ...]
    odometry: dict[float, Pose]

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def model(self) -> Path:
        return self.root / "sparse"


def read_trajectory(path: str | os.PathLike[str]) -> dict[float, Pose]:
    """TUM trajectory `seconds tx ty tz qx qy qz qw`: poses by stamp, float64. Raises ListError."""
    poses: dict[float, Pose] = {}
    for where, fields in data_lines(path):
        numbers = finite_numbers(where, fields)
        if len(numbers) != 8:
            raise ListError(f"{where}: expected 'seconds tx ty tz qx qy qz qw'")
        require_unit(where, numbers[4:], "seconds tx ty tz qx qy qz qw")
        poses[float(numbers[0])] = Pose.from_quaternion(np.roll(numbers[4:], 1), numbers[1:4])
    return poses


def write_trajectory(path: str | os.PathLike[str], poses: Mapping[float, Pose]) -> None:
    """Write poses by stamp as `read_trajectory` reads them."""
    lines = []
    for stamp in sorted(poses):
        pose = poses[stamp]
        w, x, y, z = pose.quaternion().tolist()
        numbers = [*pose.translation.tolist(), x, y, z, w]
        lines.append(" ".join([f"{stamp:.9f}", *(f"{v:.9g}" for v in numbers)]) + "\n")
    write_text(path, "".join(lines))


def pose_at(trajectory: Mapping[float, Pose], stamp: float) -> Pose | None:
    """The pose of a trajectory at a stamp, interpolated; None outside of what it covers, and in
    a gap (`pose_series.known_between`).
    """
    stamps = sorted(trajectory)
    after = bisect_left(stamps, stamp)
    if after < len(stamps) and stamps[after] == stamp:
        return trajectory[stamp]
    if after in (0, len(stamps)):
        return None
    first, second = stamps[after - 1], stamps[after]
    before, later = trajectory[first], trajectory[second]
    if not known_between(before, later, second - first):
        return None
    return before.interpolate(later, (stamp - first) / (second - first))


def read_timestamps(path: str | os.PathLike[str], names: Iterable[str]) -> dict[str, float]:
    """Seconds of each of the names from lines `name seconds`. Raises ListError."""
    stamps: dict[str, float] = {}
    for where, entries in data_lines(path):
        if len(entries) != 2:
            raise ListError(f"{where}: expected 'name seconds'")
        if entries[0] in stamps:
            raise ListError(f"{where}: {entries[0]} is listed twice")
        stamps[entries[0]] = float(finite_numbers(where, entries[1:])[0])
    unknown = next((name for name in names if name not in stamps), None)
    if unknown is not None:
        raise ListError(f"{path}: no stamp for {unknown}")
    return stamps


def read_sequence(root: str | os.PathLike[str]) -> Sequence:
    """Read a folder in this layout; without timestamps the images follow at one a second."""
    root = Path(root)
    queries = read_queries(root / "queries_with_intrinsics.txt")
    truth_file, stamp_file = root / "gt_poses.txt", root / "timestamps.txt"
    truth = read_poses(truth_file) if truth_file.is_file() else {}
    timed = stamp_file.is_file()
    if timed:
        stamps = read_timestamps(stamp_file, queries)
    else:
        stamps = {name: float(i) + 1.0 for i, name in enumerate(queries)}
    odometry_file = root / "odometry_sim.txt"
    odometry = read_trajectory(odometry_file) if timed and odometry_file.is_file() else {}
    frames = [
        SequenceImage(name, stamps[name], camera, truth.get(name))
        for name, camera in queries.items()
    ]
    return Sequence(root, tuple(sorted(frames, key=lambda f: f.stamp)), odometry)
