"""A file of records that grows.

    pixloc run 1            the first line
    records                 length (uint64), CRC-32 (uint32), and a compressed .npz of that length

A record is whole or it is not there: what was cut off while it was written is not read, and a
reader may follow a file that is being written.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pixloc_ros.errors import InputError

FIRST_LINE = b"pixloc run 1\n"
_HEAD = struct.Struct("<QI")
_LARGEST = 1 << 30

Record = dict[str, np.ndarray]


class RunError(InputError):
    """A run file that cannot be used, with the file and the reason in one line."""


class RecordWriter:
    """Appends records to a new file. Raises RunError where it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("wb")
            self._file.write(FIRST_LINE)
        except OSError as error:
            raise RunError(f"{path}: {error.strerror or error}") from None

    def append(self, record: Mapping[str, np.ndarray]) -> None:
        """Write a record, and have it reach the file at once."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **record)  # type: ignore[arg-type]
        content = buffer.getvalue()
        try:
            self._file.write(_HEAD.pack(len(content), zlib.crc32(content)) + content)
            self._file.flush()
        except OSError as error:
            raise RunError(f"{self._path}: {error.strerror or error}") from None

    def close(self) -> None:
        self._file.close()


class RecordReader:
    """Reads records by their number; `refresh` finds those that were added. Raises RunError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise RunError(f"{path}: {error.strerror or error}") from None
        self._at: list[tuple[int, int, int]] = []
        self._end = len(FIRST_LINE)
        if self._file.read(len(FIRST_LINE)) != FIRST_LINE:
            self._file.close()
            raise RunError(f"{path}: not a recorded run")
        self.refresh()

    def refresh(self) -> None:
        """Look for records that were added."""
        size = os.fstat(self._file.fileno()).st_size
        while self._end + _HEAD.size <= size:
            self._file.seek(self._end)
            length, check = _HEAD.unpack(self._file.read(_HEAD.size))
            if length > _LARGEST:
                raise RunError(f"{self._path}: damaged run (a record of {length} bytes)")
            begin = self._end + _HEAD.size
            if begin + length > size:
                break
            self._at.append((begin, length, check))
            self._end = begin + length

    def __len__(self) -> int:
        return len(self._at)

    def read(self, number: int, what: str) -> Record:
        """One record. what: it is called in an error."""
        position, length, check = self._at[number]
        self._file.seek(position)
        content = self._file.read(length)
        if zlib.crc32(content) != check:
            raise RunError(f"{self._path}: damaged run ({what})")
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (ValueError, OSError, zipfile.BadZipFile, zlib.error):
            raise RunError(f"{self._path}: damaged run ({what})") from None

    def close(self) -> None:
        self._file.close()
