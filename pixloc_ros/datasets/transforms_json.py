"""Posed images as nerfstudio and instant-ngp list them: `transforms.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixloc_ros.datasets.text import ListError
from pixloc_ros.geometry import Camera, CameraError, Pose
from pixloc_ros.left_out import LeftOut
from pixloc_ros.sensors import ImageError, image_size
from pixloc_ros.sensors.nerf_intrinsics import KEYS, camera_of_intrinsics

# their cameras look along -z with y up (OpenGL), ours along z with y down
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Transforms:
    """cameras, poses: camera and cam_from_map of each image, by its name below the folder.

    left_out: frames without an image. Unpacks to the one camera of all images, and the poses.
    """

    cameras: Mapping[str, Camera]
    poses: Mapping[str, Pose]
    left_out: LeftOut

    @property
    def camera(self) -> Camera:
        """Raises ListError where images have several."""
        first = next(iter(self.cameras.values()))
        if not all(_same(camera, first) for camera in self.cameras.values()):
            raise ListError("the images have several cameras")
        return first

    def __iter__(self) -> Iterator[Any]:
        yield self.camera
        yield self.poses


def read_transforms(path: Path, images: Path) -> Transforms:
    """Images of a file below a folder, with their cameras and poses.

    Intrinsics of a frame count before those of the file. Frames whose image is missing or
    cannot be read are left out, unless they are half of them. Raises ListError.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        frames = content["frames"]
        if not isinstance(frames, list) or not frames:
            raise KeyError("frames")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ListError(f"{path}: no transforms.json ({error})") from None
    cameras: dict[str, Camera] = {}
    poses: dict[str, Pose] = {}
    made: dict[str, Camera] = {}
    left_out = LeftOut("frame")
    for number, frame in enumerate(frames):
        where = f"{path}: frame {number}"
        if not isinstance(frame, dict):
            left_out.add("that are none", where)
            continue
        listed = str(frame.get("file_path", ""))
        name = _name(listed, path, images)
        if name is None:
            left_out.add("without its image", f"{where}: no image {listed!r} in {images}")
            continue
        if name in poses:
            raise ListError(f"{where}: {name} is listed twice")
        try:
            size = image_size(images / name)
        except ImageError as error:
            left_out.add("with an image that cannot be read", str(error))
            continue
        said = {
            key: (frame if key in frame else content)[key]
            for key in KEYS
            if key in frame or key in content
        }
        key = json.dumps([said, size], sort_keys=True, default=str)
        try:
            if key not in made:
                made[key] = camera_of_intrinsics(said, *size)
            pose = _pose(frame, where)
        except CameraError as error:
            left_out.add("without usable intrinsics", f"{where}: {error}")
            continue
        except ListError as error:
            left_out.add("without a usable pose", str(error))
            continue
        cameras[name], poses[name] = made[key], pose
    if 2 * len(poses) < len(frames) or not poses:
        raise ListError(
            f"{path}: {len(poses)} of {len(frames)} frames can be used: {left_out.most}"
        )
    return Transforms(cameras, poses, left_out)


def _pose(frame: Mapping[str, Any], where: str) -> Pose:
    try:
        matrix = np.array(frame["transform_matrix"], np.float64)
    except (KeyError, ValueError, TypeError):
        matrix = np.zeros(0)
    if matrix.shape not in ((4, 4), (3, 4)) or not np.isfinite(matrix).all():
        raise ListError(f"{where}: transform_matrix is not 4 x 4 finite numbers")
    turn = matrix[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > 1e-3 or np.linalg.det(turn) < 0:
        raise ListError(f"{where}: transform_matrix holds no rotation")
    if matrix.shape == (4, 4) and np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise ListError(f"{where}: the last row of transform_matrix is not 0 0 0 1: by columns?")
    whole = np.eye(4)
    whole[:3] = matrix[:3]
    return Pose.from_matrix(torch.from_numpy(whole @ _FLIP)).inverse()


def _same(one: Camera, other: Camera) -> bool:
    return one is other or (one.lens is other.lens and torch.equal(one.numbers(), other.numbers()))


def _name(listed: str, path: Path, images: Path) -> str | None:
    """Of an image below `images`.

    Paths are relative to the file, or to the folder of images, whose copy at another size has
    another name (images_2 for images); they may lack a suffix, or have Windows' separators.
    """
    parts = Path(listed.replace("\\", "/")).parts
    root = images.resolve()
    # the same folder at another size: images_2 for images
    copied = len(parts) > 1 and parts[0].split("_")[0] == images.name.split("_")[0]
    for base, first in ((path.parent, 0), (images, 0), *([(images, 1)] if copied else [])):
        for suffix in ("", ".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG"):
            try:
                file = (base / Path(*parts[first:])).resolve()
                file = file.with_name(file.name + suffix)
                if file.is_file() and file.is_relative_to(root):
                    return file.relative_to(root).as_posix()
            except (OSError, ValueError):
                return None
    return None
