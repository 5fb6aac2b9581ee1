"""Messages to the project's types and back."""

from __future__ import annotations

import math

import numpy as np
import torch
from builtin_interfaces.msg import Time as TimeMessage
from geometry_msgs.msg import Pose as PoseMessage
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from sensor_msgs.msg import CameraInfo
from torch import Tensor

from pixloc_ros.geometry import Camera, CameraError, Pose
from pixloc_ros.ros.bridge import quaternion_xyzw


def seconds(stamp: TimeMessage) -> float:
    return stamp.sec + 1e-9 * stamp.nanosec


def time_message(stamp: float) -> TimeMessage:
    nanoseconds = round(stamp * 1e9)
    return TimeMessage(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def camera_of(info: CameraInfo, rectified: bool = False) -> Camera:
    """The camera of the images that come with a CameraInfo.

    rectified: the images are undistorted, so P describes them and D does not.
    K is that of the full sensor: ROI and binning are applied here. Pixel centres move from
    OpenCV's integers to COLMAP's halves. Raises CameraError, for an uncalibrated camera too.
    """
    numbers = np.array([*info.k, *info.p, *info.d], np.float64)
    if not np.isfinite(numbers).all():
        raise CameraError("camera_info: K, P or D holds numbers that are not finite")
    if info.k[0] == 0.0:
        raise CameraError("camera_info: K is zero, the camera is not calibrated")
    if rectified and info.p[0] == 0.0:
        raise CameraError("camera_info: P is zero, there is no rectified calibration")
    fx, skew, cx, fy, cy = (
        (info.p[0], info.p[1], info.p[2], info.p[5], info.p[6])
        if rectified
        else (info.k[0], info.k[1], info.k[2], info.k[4], info.k[5])
    )
    if skew != 0.0:
        raise CameraError(f"camera_info: skew {skew:g} is not supported")
    model, distortion = _distortion(info, rectified)
    camera = Camera.from_colmap(
        model, info.width, info.height, [fx, fy, cx + 0.5, cy + 0.5, *distortion]
    )
    roi = info.roi
    if roi.width and roi.height:
        camera = camera.crop(roi.x_offset, roi.y_offset, roi.width, roi.height)
    binning = (max(info.binning_x, 1), max(info.binning_y, 1))
    if binning != (1, 1):
        camera = camera.scale([1 / binning[0], 1 / binning[1]])
        width, height = camera.size.floor().tolist()
        camera = camera.crop(0, 0, width, height)
    return camera


def _distortion(info: CameraInfo, rectified: bool) -> tuple[str, list[float]]:
    d = [] if rectified else [float(v) for v in info.d]
    if not any(d):
        return "PINHOLE", []
    if info.distortion_model == "equidistant" and len(d) == 4:
        return "OPENCV_FISHEYE", d
    if info.distortion_model == "plumb_bob" and len(d) in (4, 5):
        k3 = d[4] if len(d) == 5 else 0.0
        return "FULL_OPENCV", [*d[:4], k3, 0.0, 0.0, 0.0]
    if info.distortion_model == "rational_polynomial" and len(d) >= 8 and not any(d[8:]):
        return "FULL_OPENCV", d[:8]
    raise CameraError(
        f"camera_info: distortion model {info.distortion_model!r} with {len(d)} coefficients "
        "is not supported"
    )


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
