"""Rows of a dataset on disk that do not lie together, and texts that do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import h5py
import numpy as np

GAP = 2**16
"""Bytes between two rows that are asked for, up to which they are read together: that costs less
than another access."""


def read_rows(dataset: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    """Rows (n,) of a dataset, which ascend, in as few accesses as make sense."""
    if not len(rows):
        return np.empty((0, *dataset.shape[1:]), dataset.dtype)
    width = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
    cuts = np.flatnonzero(np.diff(rows) > max(GAP // width, 1)) + 1
    parts = []
    for some in np.split(rows, cuts):
        first = int(some[0])
        parts.append(dataset[first : int(some[-1]) + 1][some - first])
    return np.concatenate(parts)


def read_ranges(dataset: h5py.Dataset, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The rows of ranges (n,) that ascend and do not overlap, one after the other."""
    counts = ends - begins
    first = np.concatenate([[0], np.cumsum(counts)])
    within = np.arange(first[-1]) - np.repeat(first[:-1], counts)
    return read_rows(dataset, np.repeat(begins, counts) + within)


class Names(Sequence[str]):
    """Texts in as little memory as they have letters."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._letters = b"".join(texts)
        self._ends = np.cumsum([0, *map(len, texts)])
        self._numbers: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, number: int) -> str: ...

    @overload
    def __getitem__(self, number: slice) -> list[str]: ...

    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        at = number % len(self)
        return self._letters[self._ends[at] : self._ends[at + 1]].decode()

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def find(self, name: object) -> int | None:
        """The number of a name, or None."""
        if self._numbers is None:
            self._numbers = {name: i for i, name in enumerate(self)}
        return self._numbers.get(name) if isinstance(name, str) else None

    def __contains__(self, name: object) -> bool:
        return self.find(name) is not None
