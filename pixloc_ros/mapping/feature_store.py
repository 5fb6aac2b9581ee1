"""Observations of references in memory, their features on the device that aligns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.mapping.map_file import PixMap

MIB = 2**20
OWN_BYTES = 32
"""Of an observation's point and place."""


class FeatureStore:
    """Tables in which the observations of a reference lie together.

    Tables never move. References are read from the file when they are asked for, over those
    that were read first; room_mb bounds the tables, but `together` references always fit.

    features[i]: (rows, C_i) half; confidence[i]: (rows,) half; i as the map's levels.
    point: (rows,) index in the map; xyz: (rows, 3) float64, map frame, on the processor.
    """

    def __init__(
        self, pixmap: PixMap, device: torch.device, room_mb: float, together: int
    ) -> None:
        self._map = pixmap
        self._counts = counts = pixmap.observation_counts
        widths = pixmap.widths
        wanted = int(room_mb * MIB / (2 * sum(widths) + 2 * len(widths) + OWN_BYTES))
        # twice: while some are read, none of those asked for with them is overwritten twice
        least = 2 * together * int(counts.max(initial=1))
        self.capacity = max(1, min(int(counts.sum()), max(wanted, least)))

        def table(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float16, device=device)

        self.features = tuple(table(self.capacity, width) for width in widths)
        self.confidence = tuple(table(self.capacity) for _ in widths)
        self.point = torch.zeros(self.capacity, dtype=torch.int64)
        self.xyz = torch.zeros(self.capacity, 3, dtype=torch.float64)
        self._first: OrderedDict[int, int] = OrderedDict()
        self._next = 0
        self._device = device

    def nbytes(self) -> int:
        tables = (*self.features, *self.confidence, self.point, self.xyz)
        return sum(t.nelement() * t.element_size() for t in tables)

    def counts(self, references: Sequence[int]) -> np.ndarray:
        """Observations of each reference."""
        return self._counts[list(references)]

    def rows(self, references: Sequence[int]) -> list[int]:
        """First row of each reference; they hold until the next call."""
        missing = [r for r in dict.fromkeys(references) if r not in self._first]
        while missing:
            for reference in missing:
                self._read(reference)
            missing = [r for r in dict.fromkeys(references) if r not in self._first]
        return [self._first[r] for r in references]

    def _read(self, reference: int) -> None:
        loaded = self._map.reference(reference)
        count = len(loaded.points)
        if self._next + count > self.capacity:
            self._next = 0
        begin, end = self._next, self._next + count
        counts = self._counts
        for other, first in list(self._first.items()):
            if first < end and begin < first + int(counts[other]):
                del self._first[other]
        self.point[begin:end] = loaded.points
        self.xyz[begin:end] = loaded.xyz
        for level, (features, confidence) in enumerate(
            zip(loaded.features, loaded.confidence, strict=True)
        ):
            self.features[level][begin:end] = features.to(self._device)
            self.confidence[level][begin:end] = confidence.to(self._device)
        self._first[reference] = begin
        self._next = end


def take(table: Tensor, rows: Tensor) -> Tensor:
    """Rows of a table in single precision on a processor, as they are on a GPU."""
    taken = table.index_select(0, rows)
    return taken if taken.is_cuda else taken.float()
