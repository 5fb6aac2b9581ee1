"""The feature pyramid of an image: what alignment samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixloc_ros.features.image import check_image, resized_shape, to_tensor
from pixloc_ros.features.network import FeatureNetwork
from pixloc_ros.geometry import Camera


@dataclass(frozen=True)
class PyramidLevel:
    """One step of the alignment: a level of the network on an image of a certain size.

    image_size: longest side in pixels to which the image is shrunk (never enlarged).
    network_level: level of the network, 0 the finest.
    """

    image_size: int
    network_level: int


@dataclass(frozen=True)
class LevelMaps:
    """Dense features of one image at one pyramid level.

    features: (C, H, W), unit norm over channels unless asked for as they come out of the
    network. confidence: (H, W) in (0, 1).
    scale: (2,) cells per image pixel in x and y; offset: cells from COLMAP's origin of
    the image to that of the map.
    """

    features: Tensor
    confidence: Tensor
    scale: tuple[float, float]
    offset: float

    def camera(self, camera: Camera) -> Camera:
        """The camera whose pixels are the cells of this level."""
        scaled = camera.scale(self.scale)
        return scaled.crop(self.offset, self.offset, *scaled.size.tolist())


@dataclass(frozen=True)
class ImagePyramid:
    """levels: coarse to fine, as the network's pyramid lists them. descriptor: (D,), unit norm."""

    levels: tuple[LevelMaps, ...]
    descriptor: Tensor


@torch.no_grad()
def extract_pyramid(
    network: FeatureNetwork,
    image: np.ndarray,
    levels: Sequence[PyramidLevel],
    unit_norm: bool = True,
) -> ImagePyramid:
    """Run the network once per image size and collect the requested levels.

    image: (H, W) or (H, W, 3) RGB uint8. The descriptor is pooled at the smallest size.
    """
    image = check_image(image)
    height, width = image.shape[:2]
    outputs = {}
    for size in sorted({resized_shape(width, height, level.image_size) for level in levels}):
        tensor = to_tensor(image, max(size), network.area_resize).to(network.device)
        outputs[size] = network(tensor[None])
    maps = []
    for level in levels:
        w, h = resized_shape(width, height, level.image_size)
        output = outputs[w, h]
        number = level.network_level
        stride = network.strides[number]
        features = output.features[number][0]
        maps.append(
            LevelMaps(
                features=F.normalize(features, dim=0) if unit_norm else features,
                confidence=output.confidence[number][0],
                scale=(w / width / stride, h / height / stride),
                offset=network.offsets[number] / stride,
            )
        )
    smallest = outputs[min(outputs)]
    return ImagePyramid(tuple(maps), network.describe(smallest.encoding)[0])


def default_levels(network: FeatureNetwork, speed: str = "accurate") -> tuple[PyramidLevel, ...]:
    """The steps that a network asks for at one of its `speeds`."""
    return tuple(PyramidLevel(size, level) for size, level in network.speeds[speed])
