"""Cameras as ROS describes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pixloc_ros.geometry import Camera, CameraError

CameraInfo = Any
"""A sensor_msgs/CameraInfo, of rclpy or of rosbags."""


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
