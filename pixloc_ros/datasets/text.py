"""Line-oriented text files of the field: whitespace-separated fields, `#` comments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pixloc_ros.errors import InputError

_QUOTED = re.compile(r'"([^"]*)"|([^\s"]+)')


class ListError(InputError):
    """A list file that cannot be used, with file, line and reason."""


def data_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
    """(`file:line`, fields) of every line that is neither empty nor a comment.

    Fields are separated by blanks. A name with blanks in it stands in double quotes, or before
    a tab. A comment begins with `#`, at the begin of a line or behind the numbers. Lines may end
    as on Windows.
    """
    path = Path(path)
    if not path.is_file():
        raise ListError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ListError(f"{path}: not a text file") from None
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        fields = _fields(line, where)
        if fields:
            yield where, fields


def _fields(line: str, where: str) -> list[str]:
    line = line.strip()
    if not line or line.startswith("#"):
        return []
    if '"' in line:
        if line.count('"') % 2:
            raise ListError(f"{where}: a quotation mark that is not closed")
        fields = [inside or plain for inside, plain in _QUOTED.findall(line)]
    elif "\t" in line:
        # only a name holds blanks, and it comes first
        first, *rest = line.split("\t")
        fields = [first.strip(), *" ".join(rest).split()]
    else:
        fields = line.split()
    # a remark behind the numbers
    for number, field in enumerate(fields):
        if number > 1 and field.startswith("#"):
            return fields[:number]
    return fields


def quoted(name: str) -> str:
    """A name as `data_lines` reads it: in quotes where it holds blanks."""
    return f'"{name}"' if len(name.split()) != 1 else name


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
