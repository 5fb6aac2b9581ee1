"""Nearest neighbours among the global descriptors of a map."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.approximate import EXACT, centred, faiss

RERANKED = 10
"""Candidates of the approximate index, for each that is asked for, that are compared exactly."""

BLOCK = 2**16
"""Descriptors that are read at a time."""

_LOG = logging.getLogger(__name__)


class Index(Protocol):
    """Finds references by global descriptor."""

    def search(self, descriptor: Tensor, count: int) -> tuple[list[int], list[float]]:
        """The `count` references most similar to a descriptor (D,), best first, with cosines."""
        ...


class DescriptorIndex:
    """Exact cosine search over (R, D) descriptors of the references, in memory.

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
        """As `Index.search`. Raises ValueError for a descriptor of another length."""
        _require_width(descriptor, len(self._mean))
        scores = self._vectors @ F.normalize(descriptor - self._mean, dim=-1)
        best = scores.topk(min(count, len(self)))
        return best.indices.tolist(), best.values.tolist()


class FileIndex:
    """The search over a large map, whose descriptors stay in the file.

    With the map's approximate index the best candidates are read and compared; without it all
    descriptors are read at each search, as exact and as slow as that is.
    """

    def __init__(self, pixmap: PixMap) -> None:
        self._map = pixmap
        self._index = None
        stored, library = pixmap.descriptor_index(), faiss()
        if stored is not None and library is not None:
            self._index, self._mean = library.deserialize_index(stored[0]), stored[1]
            return
        remedy = "edit_map adds an index, with" if stored is None else "the map's index needs"
        _LOG.warning(
            "%s: every search reads %d descriptors; %s pip install 'pixloc_ros[faiss]'",
            pixmap.path,
            len(pixmap),
            remedy,
        )
        total = sum(rows.sum(0, dtype=np.float64) for _, rows in self._blocks())
        self._mean = (total / len(pixmap)).astype(np.float32)

    def __len__(self) -> int:
        return len(self._map)

    @property
    def approximate(self) -> bool:
        return self._index is not None

    def _blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first in range(0, len(self), BLOCK):
            numbers = np.arange(first, min(first + BLOCK, len(self)))
            yield numbers, self._map.described_rows(numbers)

    def search(self, descriptor: Tensor, count: int) -> tuple[list[int], list[float]]:
        """As `Index.search`. Raises ValueError for a descriptor of another length."""
        _require_width(descriptor, len(self._mean))
        query = centred(descriptor.numpy()[None], self._mean)
        parts: Iterable[tuple[np.ndarray, np.ndarray]] = self._blocks()
        if self._index is not None:
            _, found = self._index.search(query, RERANKED * count)
            candidates = np.sort(found[0][found[0] >= 0])
            parts = [(candidates, self._map.described_rows(candidates))]
        numbers, cosines = np.empty(0, np.int64), np.empty(0, np.float32)
        for some, rows in parts:
            numbers = np.concatenate([numbers, some])
            cosines = np.concatenate([cosines, centred(rows, self._mean) @ query[0]])
            best = np.argsort(-cosines, kind="stable")[:count]
            numbers, cosines = numbers[best], cosines[best]
        return numbers.tolist(), cosines.tolist()


def open_index(pixmap: PixMap) -> Index:
    """The search over the references of a map: exact, in memory, where they are not too many."""
    if len(pixmap) <= EXACT:
        return DescriptorIndex(torch.from_numpy(pixmap.described_rows(np.arange(len(pixmap)))))
    return FileIndex(pixmap)


def _require_width(descriptor: Tensor, width: int) -> None:
    if descriptor.shape != (width,):
        raise ValueError(f"a descriptor of {len(descriptor)} numbers, the map's have {width}")
