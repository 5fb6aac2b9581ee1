"""Quaternions and poses of messages."""

from __future__ import annotations

import numpy as np
import torch
from geometry_msgs.msg import TransformStamped

from pixloc_ros.geometry import Pose
from pixloc_ros.geometry.so3 import matrix_to_quaternion
from pixloc_ros.ros.bridge.distribution import package

tf_transformations = package("tf_transformations")


def quaternion_xyzw(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """Quaternion (x, y, z, w) of a rotation matrix (3, 3)."""
    if tf_transformations is not None:
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        x, y, z, w = tf_transformations.quaternion_from_matrix(matrix)
        return float(x), float(y), float(z), float(w)
    w, x, y, z = matrix_to_quaternion(torch.from_numpy(np.asarray(rotation, np.float64))).tolist()
    return x, y, z, w


def pose_of(message: TransformStamped) -> Pose:
    """parent_from_child of a transform."""
    t, q = message.transform.translation, message.transform.rotation
    return Pose.from_quaternion((q.w, q.x, q.y, q.z), (t.x, t.y, t.z))
