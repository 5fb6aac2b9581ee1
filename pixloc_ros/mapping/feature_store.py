"""Observations of references in memory, their features on the device that aligns."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.features import PATCH_SIDE
from pixloc_ros.mapping.map_file import PixMap

MIB = 2**20
OWN_BYTES = 32
"""Of an observation's point and place."""


@dataclass
class _Tables:
    """held: first and last row of each reference of each map. next: where to write on."""

    held: dict[tuple[Path, int], tuple[int, int]] = field(default_factory=dict)
    next: int = 0


class FeatureStore:
    """Tables in which the observations of a reference lie together.

    Tables never move. References are read from the file when they are asked for, over those
    that were read first; room_mb bounds the tables, but `together` references always fit.
    others: maps of the same levels, open at the same time, that share the tables.

    features[i]: (rows, C_i) half; confidence[i]: (rows,) half; i as the map's levels.
    On the processor: point: (rows,) index in the map; xyz: (rows, 3) float64, map frame;
    patches: (rows, S, S) uint8, or no rows where none of the maps has them.
    """

    def __init__(
        self,
        pixmap: PixMap,
        device: torch.device,
        room_mb: float,
        together: int,
        others: Sequence[PixMap] = (),
    ) -> None:
        maps, widths = [pixmap, *others], pixmap.widths
        patches = any(m.has_patches for m in maps)
        each = 2 * sum(widths) + 2 * len(widths) + OWN_BYTES + PATCH_SIDE**2 * patches
        wanted = int(room_mb * MIB / each)
        # twice: while some are read, none of those asked for with them is overwritten twice
        most = max(int(m.observation_counts.max(initial=1)) for m in maps)
        total = sum(m.observation_count for m in maps)
        self.capacity = max(1, min(total, max(wanted, 2 * together * most)))

        def table(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float16, device=device)

        self.features = tuple(table(self.capacity, width) for width in widths)
        self.confidence = tuple(table(self.capacity) for _ in widths)
        self.point = torch.zeros(self.capacity, dtype=torch.int64)
        self.xyz = torch.zeros(self.capacity, 3, dtype=torch.float64)
        held = self.capacity if patches else 0
        self.patches = torch.zeros(held, PATCH_SIDE, PATCH_SIDE, dtype=torch.uint8)
        self._device, self._tables = device, _Tables()
        self._serve(pixmap)

    def _serve(self, pixmap: PixMap) -> None:
        self._map, self._counts = pixmap, pixmap.observation_counts
        self._gone: np.ndarray | None = None

    def beside(self, other: PixMap) -> FeatureStore:
        """The store of one of the `others`, in the same tables."""
        shared = copy(self)
        shared._serve(other)
        return shared

    def leave_out(self, gone: np.ndarray) -> None:
        """Serve the map without some of its points, (P,) bool, instead of those of before."""
        self._gone = gone if gone.any() else None
        self._counts = self._map.observation_counts_of(~gone)
        held = self._tables.held
        for key in [key for key in held if key[0] == self._map.path]:
            del held[key]

    def nbytes(self) -> int:
        tables = (*self.features, *self.confidence, self.point, self.xyz, self.patches)
        return sum(t.nelement() * t.element_size() for t in tables)

    def counts(self, references: Sequence[int]) -> np.ndarray:
        """Observations of each reference."""
        return self._counts[list(references)]

    def rows(self, references: Sequence[int]) -> list[int]:
        """First row of each reference; they hold until the next call."""
        held = self._tables.held
        keys = [(self._map.path, r) for r in references]
        missing = [key for key in dict.fromkeys(keys) if key not in held]
        while missing:
            for _, reference in missing:
                self._read(reference)
            missing = [key for key in dict.fromkeys(keys) if key not in held]
        return [held[key][0] for key in keys]

    def _read(self, reference: int) -> None:
        loaded = self._map.reference(reference)
        if self._gone is not None:
            loaded = loaded.only(torch.from_numpy(~self._gone[loaded.points.numpy()]))
        count = len(loaded.points)
        tables = self._tables
        if tables.next + count > self.capacity:
            tables.next = 0
        begin, end = tables.next, tables.next + count
        for other, (first, last) in list(tables.held.items()):
            if first < end and begin < last:
                del tables.held[other]
        self.point[begin:end] = loaded.points
        self.xyz[begin:end] = loaded.xyz
        if len(self.patches):
            self.patches[begin:end] = 0 if loaded.patches is None else loaded.patches
        for level, (features, confidence) in enumerate(
            zip(loaded.features, loaded.confidence, strict=True)
        ):
            self.features[level][begin:end] = features.to(self._device)
            self.confidence[level][begin:end] = confidence.to(self._device)
        tables.held[self._map.path, reference] = begin, end
        tables.next = end


def take(table: Tensor, rows: Tensor) -> Tensor:
    """Rows of a table in single precision on a processor, as they are on a GPU."""
    taken = table.index_select(0, rows)
    return taken if taken.is_cuda else taken.float()
