"""What comes between a camera and a place: people, drops on the lens, and flare."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FIGURES, DROPS, FLARE = 0.25, 0.12, 0.15
"""Share of images with each of them."""
MOST_COVERED = 0.7
HIDING = 0.5
"""Opacity from which a pixel no longer shows the place."""


def _figures(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """(H, W) bool: where people stand, up to MOST_COVERED of the image."""
    mask = np.zeros((height, width), np.uint8)
    wanted = random.uniform(0.05, MOST_COVERED)
    for _ in range(8):
        tall = height * random.uniform(0.4, 1.3)
        wide = tall * random.uniform(0.2, 0.45)
        x, top = random.uniform(0, width), random.uniform(-0.2, 0.6) * height
        before = mask.copy()
        head = (int(x), int(top + 0.12 * tall))
        cv2.ellipse(
            mask, head, (max(int(0.25 * wide), 1), max(int(0.1 * tall), 1)), 0, 0, 360, 1, -1
        )
        body = ((x, top + 0.62 * tall), (wide, 0.8 * tall), random.normal(0, 8))
        cv2.ellipse(mask, body, 1, -1)
        if mask.mean() > MOST_COVERED:
            return before > 0
        if mask.mean() > wanted:
            break
    return mask > 0


def _drops(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """(H, W) opacity in [0, 1] of drops on the lens, soft at their edges."""
    opacity = np.zeros((height, width), np.float32)
    for _ in range(random.integers(5, 40)):
        radius = width * random.uniform(0.01, 0.06)
        at = (int(random.uniform(0, width)), int(random.uniform(0, height)))
        axes = (max(int(radius), 1), max(int(radius * random.uniform(0.8, 1.5)), 1))
        cv2.ellipse(opacity, at, axes, 0, 0, 360, float(random.uniform(0.7, 1.0)), -1)
    return cv2.GaussianBlur(opacity, (0, 0), 0.004 * width + 0.5)


def _glow(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """(3, H, W) light that a lamp in or near the view spreads over the image."""
    x, y = random.uniform(-0.3, 1.3, 2) * (width, height)
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    away = np.hypot(columns - x, rows - y) / math.hypot(width, height)
    near = np.exp(-0.5 * (away / random.uniform(0.05, 0.35)) ** 2)
    veil = random.uniform(0, 0.4)
    colour = np.exp(random.normal(0, 0.1, 3))[:, None, None]
    return random.uniform(0.2, 0.9) * colour * (near + veil)


def disturb(images: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Disturb ideal images (B, 3, H, W) in [0, 1], each in its own way and most not at all.

    Returns the images and where they no longer show the place, (B, H, W) bool.
    """
    b, _, h, w = images.shape
    covered = np.zeros((b, 1, h, w), np.float32)
    wet, glow = covered.copy(), np.zeros((b, 3, h, w), np.float32)
    for k, drawn in enumerate(random.random((b, 3)) < (FIGURES, DROPS, FLARE)):
        if drawn[0]:
            covered[k, 0] = _figures(h, w, random)
        if drawn[1]:
            wet[k, 0] = _drops(h, w, random)
        if drawn[2]:
            glow[k] = _glow(h, w, random)
    figure, drop, light = (torch.from_numpy(v).to(images) for v in (covered, wet, glow))
    # people wear what another view shows, turned over: detail that belongs to no place
    images = torch.where(figure > 0, 0.8 * images.roll(1, 0).flip(-1, -2), images)
    # a drop shows all of the view, small and upside down: nearly one colour
    small = F.adaptive_avg_pool2d(images, (6, 8)).flip(-2)
    blurred = F.interpolate(small, (h, w), mode="bicubic", align_corners=False)
    images = images + drop * (blurred - images)
    images = (images * (1 - 0.5 * light.clamp(max=1)) + light).clamp(0, 1)
    return images, (figure + drop)[:, 0] > HIDING
