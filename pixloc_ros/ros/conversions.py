"""Messages to the project's types and back."""

from __future__ import annotations

import math

import torch
from builtin_interfaces.msg import Time as TimeMessage
from geometry_msgs.msg import Pose as PoseMessage
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from torch import Tensor

from pixloc_ros.geometry import CameraError, Pose
from pixloc_ros.ros.bridge import quaternion_xyzw


def seconds(stamp: TimeMessage) -> float:
    return stamp.sec + 1e-9 * stamp.nanosec


def time_message(stamp: float) -> TimeMessage:
    nanoseconds = round(stamp * 1e9)
    return TimeMessage(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def pose_from_message(message: PoseMessage) -> Pose:
    p, q = message.position, message.orientation
    numbers = (p.x, p.y, p.z, q.w, q.x, q.y, q.z)
    if not all(map(math.isfinite, numbers)) or q.w**2 + q.x**2 + q.y**2 + q.z**2 < 1e-6:
        raise CameraError(
            "a pose message whose numbers are not finite or whose quaternion is zero"
        )
    return Pose.from_quaternion(numbers[3:], numbers[:3])


def pose_with_covariance(
    stamp: TimeMessage, frame: str, pose: Pose, covariance: Tensor
) -> PoseWithCovarianceStamped:
    """covariance: (6, 6) in ROS order."""
    message = PoseWithCovarianceStamped()
    message.header.stamp = stamp
    message.header.frame_id = frame
    position, orientation = message.pose.pose.position, message.pose.pose.orientation
    position.x, position.y, position.z = pose.translation.tolist()
    orientation.x, orientation.y, orientation.z, orientation.w = quaternion_xyzw(
        pose.rotation.numpy()
    )
    message.pose.covariance = covariance.to(torch.float64).flatten().numpy()
    return message


def transform_stamped(
    stamp: TimeMessage, parent: str, child: str, parent_from_child: Pose
) -> TransformStamped:
    message = TransformStamped()
    message.header.stamp = stamp
    message.header.frame_id = parent
    message.child_frame_id = child
    translation, rotation = message.transform.translation, message.transform.rotation
    translation.x, translation.y, translation.z = parent_from_child.translation.tolist()
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion_xyzw(
        parent_from_child.rotation.numpy()
    )
    return message
