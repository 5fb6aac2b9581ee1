"""A network made fast for localizing: the same pyramid of an image, in less time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixloc_ros.cuda_graphs import Replay
from pixloc_ros.features.image import check_image, resized_shape, to_tensor
from pixloc_ros.features.network import FeatureNetwork
from pixloc_ros.features.pyramid import ImagePyramid, LevelMaps, PyramidLevel


def fast_dtype(device: torch.device) -> torch.dtype:
    """Half precision where the device multiplies it faster than single precision."""
    if device.type == "cuda":
        return torch.float16
    # without these instructions bfloat16 is emulated, and slow
    has_tiles = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return torch.bfloat16 if device.type == "cpu" and has_tiles else torch.float32


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """A copy for inference in which every batch norm is part of the convolution before it."""
    folded = copy.deepcopy(network).eval()
    for parent in folded.modules():
        names = list(parent._modules)
        for first, second in pairwise(names):
            convolution, norm = parent._modules[first], parent._modules[second]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent._modules[first] = nn.utils.fuse_conv_bn_eval(convolution, norm)
                parent._modules[second] = nn.Identity()
    return folded


def shrinking(before: int, after: int, area: bool) -> Tensor:
    """Weights (after, before) with which OpenCV resizes along one side.

    area: the mean of the pixels that merge; else linear between two.
    """
    factor = before / after
    if area:
        edges = torch.arange(after + 1, dtype=torch.float64)[:, None] * factor
        pixels = torch.arange(before, dtype=torch.float64)
        upper, lower = torch.minimum(edges[1:], pixels + 1), torch.maximum(edges[:-1], pixels)
        return ((upper - lower).clamp(min=0) / factor).float()
    centre = ((torch.arange(after, dtype=torch.float64) + 0.5) * factor - 0.5).clamp(0, before - 1)
    first = centre.floor().long()
    second = (first + 1).clamp(max=before - 1)
    weights = torch.zeros(after, before, dtype=torch.float64)
    rows = torch.arange(after)
    weights.index_put_((rows, first), 1 - (centre - first), accumulate=True)
    weights.index_put_((rows, second), centre - first, accumulate=True)
    return weights.float()


class Extractor:
    """Pyramids of images by one network, as `extract_pyramid` gives them up to precision.

    On a GPU all of it happens there, from the bytes of the image on, and is one replayed graph.
    """

    def __init__(self, network: FeatureNetwork, levels: Sequence[PyramidLevel]) -> None:
        self.device = network.device
        self._original, self._levels = network, tuple(levels)
        self._sizes = sorted({level.image_size for level in levels})
        dtype = fast_dtype(self.device)
        folded = fold_batch_norms(network).requires_grad_(False).to(dtype)
        self._network = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype
        self._weights: dict[tuple[int, int], Tensor] = {}
        self._replay = Replay(self.device)

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> ImagePyramid:
        """image: (H, W) or (H, W, 3) RGB uint8."""
        image = check_image(image)
        height, width = image.shape[:2]
        if self.device.type == "cuda":
            given = torch.from_numpy(np.ascontiguousarray(image)).pin_memory()
            self._prepare(width, height)
            # the next image of this size, of the next camera for one, is written over them
            outputs = [maps.clone() for maps in self._replay(self._extract, [given])]
        else:
            outputs = self._extract_cpu(image)
        *maps, descriptor = outputs
        levels = []
        for number, level in enumerate(self._levels):
            stride = self._original.strides[level.network_level]
            w, h = resized_shape(width, height, level.image_size)
            levels.append(
                LevelMaps(
                    features=maps[2 * number],
                    confidence=maps[2 * number + 1],
                    scale=(w / width / stride, h / height / stride),
                    offset=self._original.offsets[level.network_level] / stride,
                )
            )
        return ImagePyramid(tuple(levels), descriptor)

    def _extract_cpu(self, image: np.ndarray) -> list[Tensor]:
        area = self._original.area_resize
        return self._maps([to_tensor(image, size, area)[None] for size in self._sizes])

    def _extract(self, image: Tensor) -> list[Tensor]:
        """From the bytes (H, W, 3) of an image on the device."""
        height, width = image.shape[:2]
        images = []
        for size in self._sizes:
            w, h = resized_shape(width, height, size)
            planes = image.permute(2, 0, 1).float()
            if (w, h) != (width, height):
                along_y, along_x = self._weights[height, h], self._weights[width, w]
                planes = along_y @ planes @ along_x.T
                if self._original.area_resize:
                    planes = planes.round()  # as bytes, from which the map was made
            images.append(planes[None] / 255)
        return self._maps(images)

    def _prepare(self, width: int, height: int) -> None:
        """Have the weights of all resizes on the device before they are recorded."""
        for size in self._sizes:
            smaller = resized_shape(width, height, size)
            for sides in zip((width, height), smaller, strict=True):
                if sides not in self._weights:
                    weights = shrinking(*sides, self._original.area_resize)
                    self._weights[sides] = weights.to(self.device)

    def _maps(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Features and confidence of each level, and the descriptor; images: one a size."""
        outputs = {}
        for size, image in zip(self._sizes, images, strict=True):
            given = image.to(dtype=self.dtype, memory_format=torch.channels_last)
            outputs[size] = self._network(given)
        single = torch.float32 if self.device.type == "cpu" else self.dtype
        maps = []
        for level in self._levels:
            output, number = outputs[level.image_size], level.network_level
            features = F.normalize(output.features[number][0].float(), dim=0)
            # channels last: what is sampled lies together
            rows = features.movedim(0, -1).contiguous().movedim(-1, 0)
            maps += [rows.to(single), output.confidence[number][0].float()]
        encoding = outputs[self._sizes[0]].encoding.float()
        return [*maps, self._original.describe(encoding)[0]]
