"""Images as arrays: checking, resizing."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from pixloc_ros.sensors import ImageError
from pixloc_ros.sensors.raw_images import LARGEST

MIN_SIDE = 32


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
    if height * width > LARGEST:
        raise ImageError(f"image of {width} x {height} pixels: more than {LARGEST}")
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
