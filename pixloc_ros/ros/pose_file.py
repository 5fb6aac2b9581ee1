"""Where the robot was when it was switched off: a file that people can read."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from pixloc_ros.datasets import write_text
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Pose
from pixloc_ros.localization import PoseEstimate
from pixloc_ros.ros.pose_hint import assumed


def write_pose(path: str, fix: PoseEstimate) -> None:
    """Raises InputError where it cannot be written."""
    content = {
        "frame": fix.frame,
        "stamp": fix.stamp,
        "position": fix.map_from_base.translation.tolist(),
        "quaternion_wxyz": fix.map_from_base.quaternion().tolist(),
    }
    try:
        write_text(path, yaml.safe_dump(content, sort_keys=False))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def read_pose(path: str) -> PoseEstimate | None:
    """The pose as a hint, no surer than what somebody says: the robot may have been pushed.

    None where there is no such file yet. Raises InputError for one that is none.
    """
    if not Path(path).exists():
        return None
    try:
        content = yaml.safe_load(Path(path).read_text())
        numbers = [*content["position"], *content["quaternion_wxyz"]]
        values = torch.tensor([float(number) for number in numbers], dtype=torch.float64)
        frame, stamp = str(content["frame"]), float(content["stamp"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError):
        raise InputError(f"{path}: not a pose that was kept here") from None
    if len(values) != 7 or not bool(values.isfinite().all()) or not bool(values[3:].any()):
        raise InputError(f"{path}: not a pose that was kept here")
    pose = Pose.from_quaternion(values[3:], values[:3])
    nothing = torch.zeros(6, 6, dtype=torch.float64)
    return PoseEstimate(stamp, pose, assumed(nothing), None, frame=frame)
