"""Intrinsics in the dialects of `transforms.json`: instant-ngp, nerfstudio and their exporters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pixloc_ros.geometry import Camera, CameraError, Lens

KEYS = (
    *("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y", "camera_model"),
    *("is_fisheye", "k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "distortion_params"),
)
"""What a file, or one of its frames, may say of a camera."""

_MODELS = {
    **dict.fromkeys(
        ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"),
        Lens.PERSPECTIVE,
    ),
    **dict.fromkeys(("PERSPECTIVE", "SIMPLE_RADIAL_PERSPECTIVE"), Lens.PERSPECTIVE),
    **dict.fromkeys(
        ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "FISHEYE"), Lens.EQUIDISTANT
    ),
    **dict.fromkeys(("SIMPLE_FISHEYE", "EQUIDISTANT"), Lens.EQUIDISTANT),
}
ASPECT = 0.01
"""Share by which the shape of an image may differ from its camera's and still be a scaled one."""


def camera_of_intrinsics(content: Mapping[str, Any], width: int, height: int) -> Camera:
    """The camera of an image of width x height pixels. content: entries of `KEYS`.

    Intrinsics that are given for another size (`w`, `h`) are scaled where the shape is the
    same. Raises CameraError with the entry that is wrong.
    """
    values = {key: _number(content, key) for key in KEYS[:8] if key in content}
    w, h = values.get("w", float(width)), values.get("h", float(height))
    if min(w, h) <= 0:
        raise CameraError(f"w, h are {w:g}, {h:g}")
    if abs(w * height - h * width) > ASPECT * w * height:
        raise CameraError(
            f"the image has {width} x {height} pixels, w and h are {w:g} x {h:g}: another shape"
        )
    fx, fy = _focal(values, w, h)
    lens = _lens(content)
    names = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
    given = _params(content)
    given |= {name: _number(content, name) for name in names if name in content}
    if lens is Lens.EQUIDISTANT:
        stray = next((n for n in ("k5", "k6", "p1", "p2") if given.get(n)), None)
        if stray:
            raise CameraError(f"{stray} of a fisheye camera, which has k1 to k4")
        given = {n: given[n] for n in ("k1", "k2", "k3", "k4") if n in given}
        given["n4"] = given.pop("k4", 0.0)
    elif "k4" in given and not (
        given.get("k5") or given.get("k6") or content.get("camera_model") == "FULL_OPENCV"
    ):
        # nerfstudio's polynomial goes on to the 8th power, OpenCV's k4 is below the fraction
        given["n4"] = given.pop("k4")
    camera = Camera.of(
        lens, (w, h), (fx, fy), (values.get("cx", w / 2), values.get("cy", h / 2)), given
    )
    return camera.resize(width, height)


def _params(content: Mapping[str, Any]) -> dict[str, float]:
    """Nerfstudio's list: k1, k2, k3, k4, p1, p2."""
    values = content.get("distortion_params", [])
    names = ("k1", "k2", "k3", "k4", "p1", "p2")
    if not isinstance(values, list) or len(values) not in (0, len(names)):
        raise CameraError(f"distortion_params is {values!r}, not a list of k1 k2 k3 k4 p1 p2")
    listed = dict(zip(names, values, strict=bool(values)))
    return {name: _number(listed, name) for name in listed}


def _focal(values: Mapping[str, float], w: float, h: float) -> tuple[float, float]:
    """Pixels, of lengths or of angles of view; what is not given for y is that of x."""
    found: list[float | None] = []
    for axis, side in (("x", w), ("y", h)):
        focal = values.get(f"fl_{axis}")
        angle = values.get(f"camera_angle_{axis}")
        if focal is None and angle is not None:
            if not 0 < angle < math.pi:
                raise CameraError(f"camera_angle_{axis} is {angle:g}, not in 0 to pi")
            focal = 0.5 * side / math.tan(0.5 * angle)
        found.append(focal)
    fx, fy = found
    if fx is None and fy is None:
        raise CameraError("neither fl_x nor camera_angle_x is given")
    return (fx if fx is not None else fy, fy if fy is not None else fx)  # type: ignore[return-value]


def _lens(content: Mapping[str, Any]) -> Lens:
    model = content.get("camera_model")
    flagged = content.get("is_fisheye") in (True, 1, "true", "True")
    if model is None:
        return Lens.EQUIDISTANT if flagged else Lens.PERSPECTIVE
    name = str(model).strip().upper().replace("-", "_").replace(" ", "_")
    if name not in _MODELS:
        known = ", ".join(sorted(_MODELS))
        raise CameraError(f"camera_model {model!r} is not supported; supported: {known}")
    lens = _MODELS[name]
    if flagged and lens is Lens.PERSPECTIVE:
        if name in ("OPENCV", "PERSPECTIVE"):
            return Lens.EQUIDISTANT  # instant-ngp names the calibration, not the lens
        raise CameraError(f"is_fisheye with camera_model {model!r}")
    return lens


def _number(content: Mapping[str, Any], key: str) -> float:
    try:
        value = float(content[key])
    except (ValueError, TypeError):
        raise CameraError(f"{key} is {content[key]!r}, not a number") from None
    if not math.isfinite(value):
        raise CameraError(f"{key} is {value}")
    return value
