"""From the camera that was localized to the robot that carries it."""

from __future__ import annotations

import torch
from torch import Tensor

from pixloc_ros.geometry import Pose
from pixloc_ros.geometry.so3 import skew


def _base_from_camera(cam_from_map: Pose, base_from_cam: Pose) -> Tensor:
    """Jacobian (6, 6) of the base pose by the left perturbation of cam_from_map.

    With cam_from_map' = (exp(r), t) cam_from_map and b the base origin in the camera frame, to
    first order the base moves by R ([b]_x r - t) and turns by -R r, R = map_from_cam rotation.
    """
    turn = cam_from_map.inverse().rotation
    origin = base_from_cam.inverse().translation
    zero = torch.zeros(3, 3, dtype=turn.dtype)
    return torch.cat([torch.cat([-turn, turn @ skew(origin)], 1), torch.cat([zero, -turn], 1)], 0)


def base_covariance(covariance: Tensor, cam_from_map: Pose, base_from_cam: Pose) -> Tensor:
    """Covariance of the base pose in ROS order from that of the camera's alignment.

    covariance: (6, 6) of the left perturbation (translation, rotation) in the camera frame.
    Returns (6, 6) of (x, y, z, rotation about x, y, z), fixed axes of the map frame (REP-103).
    """
    jacobian = _base_from_camera(cam_from_map, base_from_cam)
    return jacobian @ covariance @ jacobian.T


def camera_covariance(covariance: Tensor, cam_from_map: Pose, base_from_cam: Pose) -> Tensor:
    """Inverse of `base_covariance`."""
    jacobian = _base_from_camera(cam_from_map, base_from_cam)
    return torch.linalg.solve(jacobian, torch.linalg.solve(jacobian, covariance).T)
