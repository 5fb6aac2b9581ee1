"""`initialpose`: what somebody says of where the robot is."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from geometry_msgs.msg import PoseWithCovarianceStamped

from pixloc_ros.errors import InputError
from pixloc_ros.geometry import CameraError, Pose
from pixloc_ros.localization import PoseEstimate
from pixloc_ros.ros.conversions import pose_from_message, seconds
from pixloc_ros.sensors.frames import frame_name

SIGMA_M, SIGMA_DEG = 0.5, 15.0
"""What is assumed where no covariance is given, as AMCL does."""


def belief_of(message: PoseWithCovarianceStamped, frames: Collection[str]) -> PoseEstimate:
    """The hint in a message, without odometry. frames: those of the maps.

    Raises InputError with what is wrong with it.
    """
    given, known_frames = frame_name(message.header.frame_id), set(map(frame_name, frames))
    if given not in known_frames:
        known = " or ".join(map(repr, sorted(known_frames)))
        raise InputError(f"initialpose is in frame {given!r}, the map's is {known}")
    try:
        pose = pose_from_message(message.pose.pose)
    except CameraError as error:
        raise InputError(f"initialpose: {error}") from None
    covariance = np.array(message.pose.covariance, np.float64).reshape(6, 6)
    if not np.isfinite(covariance).all():
        raise InputError("initialpose: the covariance is not finite")
    if (np.diagonal(covariance) < 0).any():
        raise InputError("initialpose: a variance is negative")
    if np.abs(covariance - covariance.T).max() > 1e-6 * max(np.abs(covariance).max(), 1e-12):
        raise InputError("initialpose: the covariance is not symmetric")
    if np.linalg.eigvalsh(covariance)[0] < -1e-9:
        raise InputError("initialpose: the covariance is not that of anything")
    return PoseEstimate(
        seconds(message.header.stamp),
        pose,
        assumed(torch.from_numpy(covariance.copy())),
        None,
        frame=given,
    )


def belief_at(stamp: float, frame: str, x: float, y: float, z: float, yaw: float) -> PoseEstimate:
    """The hint in the parameters initial_pose.*: metres and radians in the map."""
    turn = torch.tensor([0.0, 0.0, yaw], dtype=torch.float64)
    place = torch.tensor([x, y, z], dtype=torch.float64)
    nothing = torch.zeros(6, 6, dtype=torch.float64)
    return PoseEstimate(stamp, Pose.from_rotvec(turn, place), assumed(nothing), None, frame=frame)


def assumed(covariance: torch.Tensor) -> torch.Tensor:
    """A zero variance is nobody's certainty: RViz sends zeros for z, roll and pitch."""
    least = torch.tensor([SIGMA_M**2] * 3 + [np.radians(SIGMA_DEG) ** 2] * 3)
    missing = covariance.diagonal() <= 0
    return covariance + torch.diag(torch.where(missing, least.to(covariance), 0.0))
