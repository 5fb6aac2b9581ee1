"""What the network makes of an image, for people to look at."""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import numpy as np
import torch

from pixloc_ros.features import FeatureNetwork, LevelMaps, PyramidLevel, extract_pyramid
from pixloc_ros.visualization.style import heat, new_figure, panels, save, show


def _over(image: np.ndarray, maps: LevelMaps, values: np.ndarray) -> np.ndarray:
    """Values (H, W) or (H, W, 3) of a level, laid over the whole image (h, w)."""
    height, width = image.shape[:2]
    sx, sy = maps.scale
    # from image pixels to cells; centres are at whole numbers on both sides
    warp = np.array(
        [
            [sx, 0, 0.5 * sx - maps.offset - 0.5],
            [0, sy, 0.5 * sy - maps.offset - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        values, warp, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )


def draw_confidence(image: np.ndarray, maps: LevelMaps, share: float = 0.6) -> np.ndarray:
    """The confidence of one level over an RGB image (h, w, 3): yellow is sure, blue is not.

    Relative to the image's own 99th percentile. share: of the colour.
    """
    values = maps.confidence.float().cpu().numpy()
    values = values / max(float(np.percentile(values, 99)), 1e-9)
    colours = heat(_over(image, maps, values)).astype(np.float32)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    return (share * colours + (1 - share) * gray).clip(0, 255).astype(np.uint8)


def draw_components(image: np.ndarray, maps: LevelMaps) -> np.ndarray:
    """The first three principal components of one level's features as RGB, (h, w, 3)."""
    features = maps.features.float().cpu()
    channels, height, width = features.shape
    flat = features.reshape(channels, -1).T
    flat = flat - flat.mean(0)
    # torch's own is random
    _, vectors = torch.linalg.eigh(flat.T @ flat)
    axes = vectors[:, -3:].flip(-1)
    # an eigenvector's sign is arbitrary
    axes = axes * axes[axes.abs().argmax(0), torch.arange(3)].sign()
    parts = (flat @ axes).numpy()
    low, high = np.percentile(parts, [1, 99], axis=0)
    scaled = ((parts - low) / np.maximum(high - low, 1e-9)).clip(0, 1)
    rgb = (255 * scaled).astype(np.uint8).reshape(height, width, 3)
    return _over(image, maps, rgb)


def plot_features(
    network: FeatureNetwork,
    image: np.ndarray,
    levels: Sequence[PyramidLevel],
    output: str | os.PathLike[str],
) -> None:
    """Write confidence and principal components of every level of an RGB image."""
    pyramid = extract_pyramid(network, image, levels)
    figure = new_figure(3.6 * len(levels), 5.6)
    axes = panels(figure, 2, len(levels))
    for number, (level, maps) in enumerate(zip(levels, pyramid.levels, strict=True)):
        title = f"{level.image_size} px, level {level.network_level}"
        show(axes[number], draw_confidence(image, maps), f"confidence, {title}")
        place = axes[number + len(levels)]
        show(place, draw_components(image, maps), f"features (PCA), {title}")
    save(figure, output)
