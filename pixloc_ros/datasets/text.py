"""Line-oriented text files of the field: whitespace-separated fields, `#` comments."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pixloc_ros.errors import InputError


class ListError(InputError):
    """A list file that cannot be used, with file, line and reason."""


def data_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
    """(`file:line`, fields) of every line that is neither empty nor a comment."""
    path = Path(path)
    if not path.is_file():
        raise ListError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ListError(f"{path}: not a text file") from None
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if fields and not fields[0].startswith("#"):
            yield f"{path}:{number}", fields


def finite_numbers(where: str, fields: Iterable[str]) -> np.ndarray:
    """The fields as float64. Raises ListError when one is no finite number."""
    try:
        numbers = np.array([float(f) for f in fields], np.float64)
    except ValueError:
        raise ListError(f"{where}: expected numbers, found {' '.join(fields)!r}") from None
    if not np.isfinite(numbers).all():
        raise ListError(f"{where}: a number is not finite")
    return numbers


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file so that it is complete or absent; a device or pipe is written to."""
    path = Path(path)
    if not path.parent.is_dir():
        raise ListError(f"{path.parent}: no such folder to write {path.name} to")
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    path = path.resolve()  # a link stays, what it points at is replaced
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
