"""What every feature network offers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pixloc_ros.features.descriptor import pool_descriptor


@dataclass(frozen=True)
class NetworkOutput:
    """Dense output for a batch of images, finest level first.

    features[l]: (B, C_l, H_l, W_l), not normalized. confidence[l]: (B, H_l, W_l) in (0, 1]. Both
    are (0,) for a level finer than what was asked for.
    encoding: (B, D, H, W), the deepest encoder activation, from which the global
    descriptor is pooled.
    """

    features: tuple[Tensor, ...]
    confidence: tuple[Tensor, ...]
    encoding: Tensor


class FeatureNetwork(nn.Module, ABC):
    """Image batch -> feature pyramid with confidences, and the damping that was learned with it.

    Level 0 is the finest here; maps and alignment count theirs from the coarsest. A cell (u, v)
    of level l (COLMAP's half-pixel origin) looks at the input pixel `strides[l] * (u, v) +
    offsets[l]`.
    """

    architecture: ClassVar[str]
    strides: ClassVar[tuple[int, ...]]
    offsets: ClassVar[tuple[float, ...]]
    channels: ClassVar[tuple[int, ...]]
    speeds: ClassVar[dict[str, tuple[tuple[int, int], ...]]]
    """(longest image side in pixels, level) of each alignment step, coarse to fine: `accurate` is
    the default, `fast` for processors on which that takes too long, `exact` looks closer.
    """
    area_resize: ClassVar[bool]
    """Whether images are averaged when shrunk (True) or sampled bilinearly (False)."""

    sigma_factors: tuple[float, float] = (1.0, 1.0)
    """On the standard deviations of translation and rotation that alignment claims, where no patch
    is found. They come with the weights; those of patches are the map's.
    """

    @abstractmethod
    def forward(self, images: Tensor, finest: int = 0) -> NetworkOutput:
        """images: (B, 3, H, W), RGB in [0, 1]. finest: of the levels that are computed."""

    def describe(self, encoding: Tensor) -> Tensor:
        """Global descriptors (B, D), unit norm, of the encodings (B, C, H, W) of images."""
        return pool_descriptor(encoding)

    @abstractmethod
    def damping_parameters(self, level: int) -> Tensor:
        """The learned theta of a level, (6,): see `alignment.damping`."""

    def weights_hash(self) -> str:
        """SHA-256 over names and float32 values of every weight: the identity of a network."""
        digest = hashlib.sha256(self.architecture.encode())
        for name, value in sorted(self.state_dict().items()):
            if not name.endswith("num_batches_tracked"):
                digest.update(name.encode())
                digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device
