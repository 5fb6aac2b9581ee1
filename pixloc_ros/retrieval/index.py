"""Exact nearest-neighbour search among the global descriptors of a map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class DescriptorIndex:
    """Cosine search over (R, D) descriptors of the references.

    The mean of the map is taken off first: images of one building share most of what a
    descriptor says, and only the rest tells places apart.
    """

    def __init__(self, descriptors: Tensor) -> None:
        if descriptors.dim() != 2 or not len(descriptors):
            raise ValueError(f"descriptors are (R, D), not {tuple(descriptors.shape)}")
        # too few references have no mean worth the name
        enough = len(descriptors) >= 8
        self._mean = descriptors.mean(0) if enough else torch.zeros_like(descriptors[0])
        self._vectors = F.normalize(descriptors - self._mean, dim=-1)

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, descriptor: Tensor, count: int) -> tuple[list[int], list[float]]:
        """The `count` references most similar to a descriptor (D,), best first, with cosines."""
        if descriptor.shape != self._mean.shape:
            raise ValueError(
                f"a descriptor of {len(descriptor)} numbers, the map's have {len(self._mean)}"
            )
        scores = self._vectors @ F.normalize(descriptor - self._mean, dim=-1)
        best = scores.topk(min(count, len(self)))
        return best.indices.tolist(), best.values.tolist()
