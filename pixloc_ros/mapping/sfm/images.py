"""Which files of a folder structure from motion can use."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pixloc_ros.geometry import Camera, CameraError
from pixloc_ros.left_out import LeftOut
from pixloc_ros.mapping.frame import LEAST
from pixloc_ros.mapping.sparse_model import ModelError
from pixloc_ros.sensors import ImageError, read_image, require_size

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
"""Images that COLMAP reads."""

OTHERS = (
    *(".webp", ".heic", ".heif", ".avif", ".jp2", ".gif", ".ppm", ".pgm", ".jxl", ".exr"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw"),
)
"""Images that it does not read, or not everywhere."""


def find_images(folder: Path, camera: Camera | None = None) -> tuple[list[str], LeftOut]:
    """Names of the images below a folder that can be read, and what was left out.

    Of files with the same content the first is taken. camera: which took them all, if known:
    others than of its size are left out. Raises ModelError where too few are left.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder of images")
    names: list[str] = []
    left_out = LeftOut("image")
    seen: dict[str, str] = {}
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        reason = unfit(name)
        if reason or path.suffix.lower() not in PICTURES:
            if reason:
                left_out.add(reason, str(path))
            continue
        try:
            height, width = read_image(path).shape[:2]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if camera is not None:
                require_size(camera, width, height, str(path))
        except ImageError as error:
            left_out.add("not readable", str(error))
            continue
        except CameraError as error:
            left_out.add("of another size than the camera", str(error))
            continue
        if digest in seen:
            left_out.add("the same picture as another", f"{path} is {seen[digest]}")
            continue
        seen[digest] = name
        names.append(name)
    if len(names) < LEAST:
        why = f" ({left_out.most})" if left_out else ""
        raise ModelError(f"{folder}: {len(names)} images to map with, {LEAST} are needed{why}")
    return names, left_out


def files_below(folder: Path) -> list[Path]:
    """All files of a folder, in the order of names, through links to folders as well."""
    found, seen = [], set()
    for root, folders, files in os.walk(folder, followlinks=True):
        place = os.path.realpath(root)
        if place in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(place)
        found += [Path(root) / file for file in files]
    return sorted(found)


def unfit(name: str) -> str:
    """Why COLMAP cannot have an image of this name, or an empty string."""
    if Path(name).suffix.lower() in OTHERS:
        return "of a format that COLMAP does not read (JPEG, PNG, BMP and TIFF are read)"
    if len(name.split()) > 1 and Path(name).suffix.lower() in PICTURES:
        return "with a space in the name, which COLMAP's lists cannot have"
    return ""
