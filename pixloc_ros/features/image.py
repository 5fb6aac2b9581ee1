"""Images as arrays: reading, checking, resizing."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from pixloc_ros.errors import InputError

MIN_SIDE = 32
MAX_PIXELS = 200_000_000


class ImageError(InputError):
    """An image that cannot be used, with the reason in one line."""


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as RGB uint8 (H, W, 3), ignoring EXIF rotation as COLMAP does.

    Raises ImageError when the file is missing or no image.
    """
    path = Path(path)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        if not path.is_file():
            raise ImageError(f"{path}: no such image")
        image = cv2.imdecode(np.fromfile(path, np.uint8), flags)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from None
    except cv2.error:
        image = None
    if image is None:
        raise ImageError(f"{path}: not a readable image ({path.stat().st_size} bytes)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def check_image(image: np.ndarray) -> np.ndarray:
    """The image as RGB uint8 (H, W, 3); gray images gain channels. Raises ImageError."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise ImageError(f"an image is a uint8 array, not {kind}")
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"an image has shape (H, W) or (H, W, 3), not {image.shape}")
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ImageError(f"image of {width} x {height} pixels: at least {MIN_SIDE} a side")
    if height * width > MAX_PIXELS:
        raise ImageError(f"image of {width} x {height} pixels: more than {MAX_PIXELS}")
    return image


def resized_shape(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height after shrinking to the longest side; smaller images are not enlarged."""
    factor = longest / max(width, height)
    if factor >= 1:
        return width, height
    return max(round(width * factor), 1), max(round(height * factor), 1)


def shrink(image: np.ndarray, longest: int) -> np.ndarray:
    """The image itself, or averaged down to the longest side."""
    size = resized_shape(image.shape[1], image.shape[0], longest)
    if size == (image.shape[1], image.shape[0]):
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def to_tensor(image: np.ndarray, longest: int, area: bool) -> Tensor:
    """Shrink to the longest side and convert: (3, H, W) float32 in [0, 1].

    area: average over the pixels that merge (no aliasing) or sample bilinearly.
    """
    size = resized_shape(image.shape[1], image.shape[0], longest)
    if size != (image.shape[1], image.shape[0]):
        image = cv2.resize(
            image if area else image.astype(np.float32),
            size,
            interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR,
        )
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    return tensor.float() / 255
