"""Cameras out of files: Kalibr's camchain, ROS' camera_calibration, and COLMAP's line of words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from pixloc_ros.geometry import Camera, CameraError, Lens
from pixloc_ros.sensors.camera_info import camera_of, lens_of

# Kalibr's distortion models by the names that ROS has for them
_KALIBR = {
    **dict.fromkeys(("radtan", "radial-tangential"), "plumb_bob"),
    **dict.fromkeys(("equidistant", "equi"), "equidistant"),
    "none": "none",
}


def read_camera(given: str) -> Camera:
    """The camera that `--camera` names: a file, or `MODEL width height params...`.

    Of a file with several cameras one is chosen as `FILE:NAME`. Raises CameraError.
    """
    path, name = _file(given)
    if path is not None:
        return camera_of_file(path, name)
    model, *numbers = given.replace(",", " ").split() or [""]
    try:
        width, height, *params = map(float, numbers)
    except ValueError:
        raise CameraError(
            f"{given!r} is neither a file nor 'MODEL width height params...'"
        ) from None
    try:
        return Camera.from_colmap(model, width, height, params)
    except CameraError as error:
        raise CameraError(f"{given!r}: {error}") from None


def _file(given: str) -> tuple[Path | None, str]:
    if Path(given).is_file():
        return Path(given), ""
    head, separator, name = given.rpartition(":")
    if separator and Path(head).is_file():
        return Path(head), name
    if given.lower().endswith((".yaml", ".yml", ".json")):
        raise CameraError(f"{given}: no such file")
    return None, ""


def camera_of_file(path: str | os.PathLike[str], name: str = "") -> Camera:
    """The camera of Kalibr's `camchain.yaml` or of a `camera_calibration` YAML.

    name: of one of several cameras (cam0). Raises CameraError with file and field.
    """
    try:
        # OpenCV's own header is no YAML
        text = Path(path).read_text(encoding="utf-8-sig").replace("%YAML:1.0", "", 1)
        # what `ros2 topic echo` prints ends with the begin of another document
        content = next(iter(yaml.load_all(text, _Loader)), None)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise CameraError(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(content, Mapping):
        raise CameraError(f"{path}: no calibration (camera_calibration's YAML, or a camchain)")
    try:
        if "camera_matrix" in content:
            return _of_ros(content)
        if "distortion_model" in content and ("k" in content or "K" in content):
            return _of_message(content)
        if "intrinsics" in content:  # EuRoC's sensor.yaml
            return _of_kalibr({"camera": content}, "camera")
        chain = {
            str(k): v for k, v in content.items() if isinstance(v, Mapping) and "intrinsics" in v
        }
        if chain:
            return _of_kalibr(chain, name)
        raise CameraError("neither camera_matrix nor a camera with intrinsics")
    except CameraError as error:
        raise CameraError(f"{path}: {error}") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise CameraError(f"{path}: no calibration ({error})") from None


class _Loader(yaml.SafeLoader):
    """Knows OpenCV's matrices, which are mappings with a tag."""


_Loader.add_constructor(
    "tag:yaml.org,2002:opencv-matrix", lambda loader, node: loader.construct_mapping(node, True)
)


def _of_ros(content: Mapping[str, Any]) -> Camera:
    """As `camera_calibration_parsers` writes it: what a CameraInfo would have."""
    model = content.get("distortion_model", content.get("camera_model", ""))
    if content.get("fisheye_model") in (1, True):  # as OpenCV's sample writes it
        model = "fisheye"
    rectified = "projection_matrix" in content
    info = SimpleNamespace(
        width=_count(content, "image_width"),
        height=_count(content, "image_height"),
        distortion_model=str(model),
        k=_matrix(content, "camera_matrix", 9),
        d=_matrix(content, "distortion_coefficients", None),
        r=_matrix(content, "rectification_matrix", 9)
        if "rectification_matrix" in content
        else np.eye(3).ravel(),
        p=_matrix(content, "projection_matrix", 12) if rectified else np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=SimpleNamespace(width=0, height=0, x_offset=0, y_offset=0),
    )
    return camera_of(info)


def _of_message(content: Mapping[str, Any]) -> Camera:
    """A camera_info as `ros2 topic echo` prints it."""

    def of(name: str, count: int | None) -> np.ndarray:
        key = name if name in content else name.upper()
        return _matrix(content, key, count) if key in content else np.zeros(count or 0)

    roi = content.get("roi")
    given = roi if isinstance(roi, Mapping) else {}
    window = {k: int(given.get(k, 0)) for k in ("width", "height", "x_offset", "y_offset")}
    return camera_of(
        SimpleNamespace(
            width=_count(content, "width"),
            height=_count(content, "height"),
            distortion_model=str(content["distortion_model"]),
            k=of("k", 9),
            d=of("d", None),
            r=of("r", 9),
            p=of("p", 12),
            binning_x=int(content.get("binning_x", 0)),
            binning_y=int(content.get("binning_y", 0)),
            roi=SimpleNamespace(**window),
        )
    )


def _of_kalibr(chain: Mapping[str, Any], name: str) -> Camera:
    if not name and len(chain) > 1:
        raise CameraError(f"cameras {', '.join(map(str, chain))}: choose one as FILE:NAME")
    name = name or str(next(iter(chain)))
    if name not in chain:
        raise CameraError(f"no camera {name}; there are {', '.join(map(str, chain))}")
    camera = chain[name]
    numbers = _numbers(camera["intrinsics"], f"{name}: intrinsics")
    key = "distortion_coeffs"
    if key not in camera and "distortion_coefficients" in camera:
        key = "distortion_coefficients"
    elif key not in camera and str(camera.get("distortion_model", "none")) != "none":
        raise CameraError(f"{name}: distortion_coeffs is missing")
    d = _numbers(camera.get(key, []), f"{name}: {key}")
    size = _numbers(camera.get("resolution", []), f"{name}: resolution")
    model = str(camera.get("camera_model", "pinhole"))
    distortion = str(camera.get("distortion_model", "none"))
    shape: list[float] = []
    if model == "eucm":
        shape, numbers = numbers[:2], numbers[2:]
    elif model != "pinhole":
        raise CameraError(f"{name}: camera_model {model!r} is not supported; pinhole, eucm are")
    if len(numbers) != 4 or len(size) != 2:
        raise CameraError(
            f"{name}: intrinsics of {len(numbers)}, resolution of {len(size)} numbers"
        )
    lens: Lens
    coefficients: dict[str, float]
    if distortion == "fov" and len(d) == 1 and not shape:
        lens, coefficients = Lens.FIELD_OF_VIEW, {"omega": d[0]}
    elif distortion in _KALIBR:
        lens, coefficients = lens_of(_KALIBR[distortion], d, name)
    else:
        raise CameraError(
            f"{name}: distortion_model {distortion!r} with {len(d)} coefficients is not supported"
        )
    if shape:
        if any(d):
            raise CameraError(f"{name}: eucm with distortion {distortion!r} is not supported")
        lens, coefficients = Lens.UNIFIED, {"alpha": shape[0], "beta": shape[1]}
    fx, fy, cx, cy = numbers
    return Camera.of(lens, size, (fx, fy), (cx + 0.5, cy + 0.5), coefficients)


def _count(content: Mapping[str, Any], key: str) -> int:
    value = content.get(key)
    if not isinstance(value, int) or value <= 0:
        raise CameraError(f"{key} is {value!r}, not a number of pixels")
    return value


def _matrix(content: Mapping[str, Any], key: str, count: int | None) -> np.ndarray:
    matrix = content.get(key)
    data = matrix.get("data") if isinstance(matrix, Mapping) else matrix
    values = np.array(_numbers(data, key), np.float64)
    if count is not None and len(values) != count:
        raise CameraError(f"{key} has {len(values)} numbers, not {count}")
    return values


def _numbers(values: Any, where: str) -> list[float]:
    """Flat, of a list or of rows."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise CameraError(f"{where}: expected a list of numbers, found {values!r}")
    try:
        return [float(v) for v in np.array(values, np.float64).ravel()]
    except (ValueError, TypeError):
        raise CameraError(f"{where}: expected a list of numbers, found {values!r}") from None
