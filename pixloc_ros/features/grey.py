"""An image as grey values, and the small patches of it that a map keeps."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from pixloc_ros.features.image import resized_shape, shrink
from pixloc_ros.geometry import Camera, FeatureTable

PATCH_SIDE = 9
"""Pixels along a side of a patch."""

LONGEST = 1600
"""Longest side, in pixels, of what patches are taken from; larger images are shrunk to it."""

SMOOTHING = 0.8
"""Standard deviation, in pixels, of the Gaussian that takes off noise and aliasing."""


def grey_values(image: np.ndarray) -> np.ndarray:
    """(H', W') float32, 0 to 255, from (H, W) or (H, W, 3) RGB uint8."""
    small = shrink(image, LONGEST)
    if small.ndim == 3:
        small = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    return cv2.GaussianBlur(small.astype(np.float32), (0, 0), SMOOTHING)


def grey_camera(camera: Camera) -> Camera:
    """The camera whose pixels are those of `grey_values`."""
    width, height = camera.size.tolist()
    smaller = resized_shape(round(width), round(height), LONGEST)
    return camera.scale((smaller[0] / width, smaller[1] / height))


def cut_patches(values: np.ndarray, pixels: Tensor) -> Tensor:
    """Patches (n, PATCH_SIDE, PATCH_SIDE) uint8 of grey values around places (n, 2).

    One that reaches beyond the border is zero: a patch without structure is never found.
    """
    along = torch.arange(PATCH_SIDE) - (PATCH_SIDE - 1) / 2
    y, x = torch.meshgrid(along, along, indexing="ij")
    table = FeatureTable(torch.from_numpy(values)[None])
    places = pixels.float()[:, None] + torch.stack([x, y], -1).reshape(-1, 2)
    found = table.sample(places)[..., 0] * table.inside(places).all(-1, keepdim=True)
    return found.round().clamp(0, 255).byte().reshape(-1, PATCH_SIDE, PATCH_SIDE)
