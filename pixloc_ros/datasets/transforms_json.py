"""Posed images as nerfstudio and instant-ngp list them: `transforms.json`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixloc_ros.datasets.text import ListError
from pixloc_ros.features import read_image
from pixloc_ros.geometry import Camera, CameraError, Pose

# their cameras look along -z with y up (OpenGL), ours along z with y down
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
PER_FRAME = ("fl_x", "cx", "w", "camera_angle_x", "k1")


def read_transforms(path: Path, images: Path) -> tuple[Camera, dict[str, Pose]]:
    """The camera of all images, and their cam_from_map by name below `images`.

    Raises ListError for what is missing, damaged or has a camera for each image.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        frames = content["frames"]
        if not isinstance(frames, list) or not frames:
            raise KeyError("frames")
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise ListError(f"{path}: no transforms.json ({error})") from None
    poses: dict[str, Pose] = {}
    for number, frame in enumerate(frames):
        where = f"{path}: frame {number}"
        if not isinstance(frame, dict):
            raise ListError(f"{where}: not a frame")
        own = next((key for key in PER_FRAME if key in frame), None)
        if own is not None:
            raise ListError(f"{where}: {own} of its own; one camera for all images is read")
        name = _name(str(frame.get("file_path", "")), path, images)
        if name is None:
            raise ListError(f"{where}: no image {frame.get('file_path')!r} in {images}")
        try:
            matrix = np.array(frame["transform_matrix"], np.float64)
        except (KeyError, ValueError, TypeError):
            matrix = np.zeros(0)
        if matrix.shape not in ((4, 4), (3, 4)) or not np.isfinite(matrix).all():
            raise ListError(f"{where}: transform_matrix is not 4 x 4 finite numbers")
        turn = matrix[:3, :3]
        if np.abs(turn @ turn.T - np.eye(3)).max() > 1e-3 or np.linalg.det(turn) < 0:
            raise ListError(f"{where}: transform_matrix holds no rotation")
        whole = np.eye(4)
        whole[:3] = matrix[:3]
        if name in poses:
            raise ListError(f"{where}: {name} is listed twice")
        poses[name] = Pose.from_matrix(torch.from_numpy(whole @ _FLIP)).inverse()
    return _camera(content, path, images / next(iter(poses))), poses


def _name(listed: str, path: Path, images: Path) -> str | None:
    """Of an image below `images`; paths are relative to the file, maybe without a suffix."""
    for suffix in ("", ".png", ".jpg", ".jpeg"):
        for base in (path.parent, images):
            file = (base / (listed + suffix)).resolve()
            if listed and file.is_file() and file.is_relative_to(images.resolve()):
                return file.relative_to(images.resolve()).as_posix()
    return None


def _camera(content: dict[str, Any], path: Path, first: Path) -> Camera:
    height, width = read_image(first).shape[:2]
    try:
        if "fl_x" in content:
            fx = float(content["fl_x"])
        else:
            fx = 0.5 * width / math.tan(0.5 * float(content["camera_angle_x"]))
        fy = float(content.get("fl_y", fx))
        cx, cy = float(content.get("cx", width / 2)), float(content.get("cy", height / 2))
        lens = [float(content.get(key, 0.0)) for key in ("k1", "k2", "p1", "p2")]
        model = str(content.get("camera_model", "OPENCV"))
        if model == "OPENCV_FISHEYE":
            lens = [float(content.get(key, 0.0)) for key in ("k1", "k2", "k3", "k4")]
        elif model not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE"):
            raise CameraError(f"camera_model {model} is not read")
        fisheye = model == "OPENCV_FISHEYE"
        name = "OPENCV_FISHEYE" if fisheye else "OPENCV"
        return Camera.from_colmap(name, width, height, [fx, fy, cx, cy, *lens])
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise ListError(f"{path}: no usable intrinsics ({error})") from None
