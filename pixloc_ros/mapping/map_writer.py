"""Writing a map file: whole or not at all, one reference after the other."""

from __future__ import annotations

import fcntl
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

import h5py
import numpy as np
from typing_extensions import Buffer

from pixloc_ros.features import PATCH_SIDE, PlaceModel
from pixloc_ros.interrupts import held, let_through
from pixloc_ros.mapping.approximate import make_index
from pixloc_ros.mapping.calibration import ATTRIBUTE, as_attribute
from pixloc_ros.mapping.hdf5_rows import read_rows
from pixloc_ros.mapping.schema import (
    FORMAT,
    PLACES,
    QUANTILES,
    VERSION,
    MapError,
    MapHeader,
    checksum,
)
from pixloc_ros.mapping.sessions import Sessions
from pixloc_ros.mapping.sparse_model import SparseModel

STATISTICS_PAIRS = 20_000
STATISTICS_OF = 10_000_000
"""Observations among which those pairs are sought; of more, those of an even choice of points."""


class _Disk(io.FileIO):
    """A file whose failed writes are noticed, but not by HDF5, which would crash.

    error: of the first write that failed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, data: Buffer) -> int:
        left = memoryview(data).cast("B")
        while len(left) and self.error is None:
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextmanager
def atomic_map(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file that appears under its name only when it is complete and on disk.

    What a killed program left of it is written over. Interrupts are held meanwhile.
    Raises MapError where another one is writing it.
    """
    temporary = path.with_name(f".{path.name}.partial")
    handle = None
    try:
        # an interrupt comes when it is known whose file it is
        with held():
            handle = _locked(temporary, path)
        with _Disk(temporary) as disk:
            with held(), h5py.File(disk, "w") as file:
                yield file
            if disk.error is not None:
                raise MapError(f"{path}: {disk.error.strerror}; nothing is written")
            os.fsync(disk.fileno())
        os.replace(temporary, path)
    finally:
        if handle is not None:
            temporary.unlink(missing_ok=True)
            handle.close()


def _locked(temporary: Path, path: Path) -> IO[bytes]:
    """The file that a map is written to, which nobody else writes meanwhile."""
    handle = open(temporary, "ab")  # noqa: SIM115
    try:
        # HDF5 would truncate the other's file before it looks for a lock
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise MapError(f"{path}: another program is writing it") from None
    return handle


class MapWriter:
    """Appends the observations of one reference after the other.

    patches: whether they have grey values.
    """

    def __init__(self, file: h5py.File, widths: Sequence[int], patches: bool = True) -> None:
        self.file = file
        self.offsets = [0]
        self._point = self._growing("observations/point", (), np.int32)
        self._patch = None
        if patches:
            self._patch = self._growing("observations/patch", (PATCH_SIDE, PATCH_SIDE), np.uint8)
        self._levels = [
            (
                self._growing(f"levels/{i}/features", (width,), np.float16),
                self._growing(f"levels/{i}/confidence", (), np.float16),
            )
            for i, width in enumerate(widths)
        ]

    def _growing(self, name: str, row: tuple[int, ...], dtype: type) -> h5py.Dataset:
        return self.file.create_dataset(
            name, (0, *row), dtype, maxshape=(None, *row), chunks=(1024, *row)
        )

    def append(
        self,
        points: np.ndarray,
        samples: Sequence[tuple[np.ndarray, np.ndarray]],
        patches: np.ndarray | None,
    ) -> None:
        first, last = self.offsets[-1], self.offsets[-1] + len(points)
        if self._patch is not None:
            self._patch.resize(last, axis=0)
            # of a map without any that is merged with one that has them: none of them is found.
            # Whole arrays: HDF5 would write a single zero row by row
            nothing = np.zeros((len(points), *self._patch.shape[1:]), np.uint8)
            self._patch[first:last] = nothing if patches is None else patches
        self._point.resize(last, axis=0)
        self._point[first:last] = points
        for (features, confidence), (f, c) in zip(self._levels, samples, strict=True):
            for dataset, values in ((features, f), (confidence, c)):
                dataset.resize(last, axis=0)
                dataset[first:last] = values
        self.offsets.append(last)

    def finish(
        self,
        model: SparseModel,
        descriptors: np.ndarray,
        header: MapHeader,
        provenance: Sequence[Mapping[str, object]],
        sessions: Sessions,
        calibration: tuple[float, float] | None = None,
        places: tuple[PlaceModel, np.ndarray] | None = None,
    ) -> None:
        """Everything but the observations. provenance, sessions, calibration: as `PixMap` has
        them. places: the model, and what it says of the references (R, K).
        """
        self.file["observations/offsets"] = np.array(self.offsets, np.int64)
        _write_structure(self.file, model, descriptors)
        sessions.write(self.file)
        if places is not None:
            learned, described = places
            self.file["references/place"] = described
            for name in PLACES:
                self.file[f"places/{name}"] = getattr(learned, name).numpy()
        with let_through():
            index = make_index(descriptors if places is None else places[1])
        if index is not None:
            self.file["references/index"], self.file["references/descriptor_mean"] = index
        _write_statistics(self.file, len(header.levels), len(model.points))
        self.file.attrs.update(format=FORMAT, version=VERSION, header=header.to_json())
        self.file.attrs["provenance"] = json.dumps(list(provenance), sort_keys=True)
        if calibration is not None:
            self.file.attrs[ATTRIBUTE] = as_attribute(calibration)
        self.file.attrs["checksum"] = checksum(self.file)


def _write_structure(file: h5py.File, model: SparseModel, descriptors: np.ndarray) -> None:
    text = h5py.string_dtype()
    file.create_dataset("cameras", data=[json.dumps(asdict(c)) for c in model.cameras], dtype=text)
    file.create_dataset("references/name", data=list(model.names), dtype=text)
    for name, values in {
        "references/camera": model.camera_index,
        "references/quaternion": model.quaternion,
        "references/translation": model.translation,
        "references/descriptor": descriptors,
        "points/xyz": model.points,
        "points/track_length": model.track_length,
    }.items():
        file[name] = values


def _write_statistics(file: h5py.File, levels: int, points: int) -> None:
    """How far features of the same point, and of unrelated points, are apart in this map."""
    observed = file["observations/point"][:]
    generator = np.random.default_rng(0)
    rows = np.arange(len(observed))
    if len(observed) > STATISTICS_OF:
        # all observations of some points
        chosen = generator.random(points) < STATISTICS_OF / len(observed)
        rows = np.flatnonzero(chosen[observed])
    point = observed[rows]
    order = np.argsort(point, kind="stable")
    repeated = np.flatnonzero(point[order][1:] == point[order][:-1])
    drawn = generator.permutation(repeated)[:STATISTICS_PAIRS]
    matching = (rows[order[drawn]], rows[order[drawn + 1]])
    unrelated = tuple(generator.integers(0, len(observed), (2, STATISTICS_PAIRS)))
    used, places = np.unique(np.concatenate([*matching, *unrelated]), return_inverse=True)
    counts = [len(drawn), len(drawn), STATISTICS_PAIRS, STATISTICS_PAIRS]
    one, other, here, there = np.split(places, np.cumsum(counts)[:-1])
    for i in range(levels):
        features = read_rows(file[f"levels/{i}/features"], used).astype(np.float32)
        for name, (a, b) in (("matching", (one, other)), ("unrelated", (here, there))):
            squared = ((features[a] - features[b]) ** 2).sum(-1)
            # a map without any point seen twice has nothing to measure
            values = (
                np.quantile(squared, QUANTILES)
                if len(squared)
                else np.full(len(QUANTILES), np.nan)
            )
            file[f"levels/{i}/{name}"] = values.astype(np.float32)
