"""Cameras as ROS describes them in sensor_msgs/CameraInfo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pixloc_ros.geometry import Camera, CameraError, Lens
from pixloc_ros.geometry.distortion import COEFFICIENTS, tilt

CameraInfo = Any
"""A sensor_msgs/CameraInfo, of rclpy or of rosbags, of ROS 1 or 2."""

_PERSPECTIVE = (
    *("", "none", "pinhole", "plumb_bob", "radtan", "radial_tangential", "brown_conrady"),
    *("rational_polynomial", "thin_prism", "opencv"),
)
_FISHEYE = (
    *("equidistant", "equi", "fisheye", "opencv_fisheye"),
    *("kannala_brandt", "kannala_brandt4", "kb4"),
)

SHORTEST = 0.01
"""Image widths below which a focal length is not one in pixels."""

COUNTS = (0, 4, 5, 8, 12, 14)
"""How many coefficients OpenCV's model has: k1 k2 p1 p2, k3, k4 k5 k6, s1 to s4, tau_x tau_y."""


def camera_of(info: CameraInfo, rectified: bool = False) -> Camera:
    """The camera of the images that come with a CameraInfo.

    rectified: the images are undistorted, so P describes them and D does not.
    K is that of the full sensor: ROI and binning are applied here. Pixel centres move from
    OpenCV's integers to COLMAP's halves. Raises CameraError with the field that is wrong, for
    an uncalibrated camera too.
    """
    name, matrix = ("P", _field(info, "p", 12)) if rectified else ("K", _field(info, "k", 9))
    columns = 4 if rectified else 3
    if not np.isfinite(matrix).all():
        raise CameraError(f"camera_info: {name} holds numbers that are not finite")
    fx, skew, cx = matrix[:3]
    fy, cy = matrix[columns + 1 : columns + 3]
    if fx == 0.0:
        reason = "there is no rectified calibration" if rectified else "the camera is uncalibrated"
        raise CameraError(f"camera_info: {name} is zero, {reason}")
    if abs(skew) > 1e-6 * abs(fx):
        raise CameraError(f"camera_info: {name} has a skew of {skew:g}, which is not supported")
    zeros = [matrix[columns], *matrix[2 * columns : 2 * columns + 2]]
    if any(abs(v) > 1e-6 * abs(fx) for v in zeros):
        raise CameraError(
            f"camera_info: {name} is not of the form fx 0 cx, 0 fy cy, 0 0 1: is it stored by "
            "columns?"
        )
    if info.width <= 0 or info.height <= 0:
        raise CameraError(f"camera_info: width {info.width}, height {info.height}")
    if 0 < fx < SHORTEST * info.width:
        raise CameraError(
            f"camera_info: {name} has a focal length of {fx:g} for a width of {info.width}: is it "
            "in pixels?"
        )
    lens, numbers = (Lens.PERSPECTIVE, {}) if rectified else _lens(info)
    try:
        camera = Camera.of(
            lens, (info.width, info.height), (fx, fy), (cx + 0.5, cy + 0.5), numbers
        )
    except CameraError as error:
        raise CameraError(f"camera_info: {error}") from None
    return _windowed(camera, info)


def note_on(info: CameraInfo, rectified: bool = False) -> str:
    """What is to be said of how a CameraInfo was understood, or an empty string."""
    if rectified or _model(info) not in _FISHEYE or _coefficients(info).any():
        return ""
    if _looks_rectified(info):
        return (
            f"camera_info: {info.distortion_model!r} without coefficients, with P of a rectified "
            "pair: taken as rectified images"
        )
    return (
        f"camera_info: {info.distortion_model!r} with coefficients of zero: taken as an ideal "
        "fisheye; where the images are rectified, say so (rectified)"
    )


def lens_of(model: str, d: Sequence[float], where: str) -> tuple[Lens, dict[str, float]]:
    """Lens and coefficients of a distortion model of ROS by name.

    d: in OpenCV's order. Raises CameraError for a model or a number of coefficients that is
    not known; zeros more than a model has are none.
    """
    name, values = _named(model), [float(v) for v in d]
    if not np.isfinite(values).all():
        raise CameraError(f"{where}: D holds numbers that are not finite")
    if name in _FISHEYE:
        if any(values[4:]):
            raise CameraError(
                f"{where}: {model!r} with {len(values)} coefficients, it has 4 (D beyond the "
                "fourth is not zero)"
            )
        values = [*values, 0.0, 0.0, 0.0, 0.0][:4]
        return Lens.EQUIDISTANT, dict(zip(("k1", "k2", "k3", "n4"), values, strict=True))
    if name not in _PERSPECTIVE:
        known = ", ".join(n for n in (*_PERSPECTIVE, *_FISHEYE) if n)
        raise CameraError(
            f"{where}: distortion_model {model!r} is not supported; supported: {known}"
        )
    while values and values[-1] == 0.0:
        values.pop()
    if len(values) > COUNTS[-1]:
        raise CameraError(f"{where}: {model!r} with {len(d)} coefficients, OpenCV has 14")
    if len(d) not in COUNTS and len(values) > 5:
        raise CameraError(
            f"{where}: {model!r} with {len(d)} coefficients in D; 4, 5, 8, 12 or 14 have a meaning"
        )
    values = [*values, *[0.0] * 14][:14]
    numbers = dict(zip(COEFFICIENTS[:12], values, strict=False))
    return Lens.PERSPECTIVE, numbers | (tilt(*values[12:]) if any(values[12:]) else {})


def _lens(info: CameraInfo) -> tuple[Lens, dict[str, float]]:
    if _model(info) in _FISHEYE and not _coefficients(info).any() and _looks_rectified(info):
        return Lens.PERSPECTIVE, {}
    return lens_of(info.distortion_model, _coefficients(info).tolist(), "camera_info")


def _looks_rectified(info: CameraInfo) -> bool:
    """Of a lens without coefficients: whether P and R are those of a rectified pair.

    The camera of a raw image has another matrix K before rectification than P after it.
    """
    p, k = _field(info, "p", 12).reshape(3, 4), _field(info, "k", 9).reshape(3, 3)
    r = _field(info, "r", 9).reshape(3, 3)
    turned = r.any() and np.abs(r - np.eye(3)).max() > 1e-9
    return bool(np.allclose(p[:, :3], k) and (p[0, 3] != 0.0 or turned))


def _windowed(camera: Camera, info: CameraInfo) -> Camera:
    """With ROI and binning."""
    roi = info.roi
    if roi.width and roi.height:
        if roi.x_offset + roi.width > info.width or roi.y_offset + roi.height > info.height:
            raise CameraError(
                f"camera_info: the ROI of {roi.width} x {roi.height} at {roi.x_offset}, "
                f"{roi.y_offset} lies outside of {info.width} x {info.height} pixels"
            )
        camera = camera.crop(roi.x_offset, roi.y_offset, roi.width, roi.height)
    binning = (max(info.binning_x, 1), max(info.binning_y, 1))
    if binning != (1, 1):
        camera = camera.scale([1 / binning[0], 1 / binning[1]])
        width, height = camera.size.floor().tolist()
        camera = camera.crop(0, 0, width, height)
    return camera


def _named(model: str) -> str:
    return model.strip().lower().replace(" ", "_").replace("-", "_")


def _model(info: CameraInfo) -> str:
    return _named(str(info.distortion_model))


def _coefficients(info: CameraInfo) -> np.ndarray:
    return np.asarray(_get(info, "d"), np.float64).ravel()


def _field(info: CameraInfo, name: str, count: int) -> np.ndarray:
    values = np.asarray(_get(info, name), np.float64).ravel()
    if len(values) != count:
        raise CameraError(f"camera_info: {name.upper()} has {len(values)} numbers, not {count}")
    return values


def _get(info: CameraInfo, name: str) -> Any:
    """A matrix of a CameraInfo; ROS 1 has capitals."""
    return getattr(info, name) if hasattr(info, name) else getattr(info, name.upper())
