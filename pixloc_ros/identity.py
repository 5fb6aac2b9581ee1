"""What makes two inputs the same, without reading them: names, sizes and times of files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

Identity = list[tuple[str, int, int]]


def identity_of(path: Path) -> Identity:
    """Of a file, or of all files below a folder; empty for what is not there."""
    if path.is_file():
        return identity_of_files(path.parent, [path.name])
    below = sorted(p for p in path.rglob("*") if p.is_file())
    return identity_of_files(path, [p.relative_to(path).as_posix() for p in below])


def identity_of_files(folder: Path, names: Iterable[str]) -> Identity:
    """Name, bytes, and nanoseconds of the last change of each file of a folder."""
    found = []
    for name in names:
        status = (folder / name).stat()
        found.append((name, status.st_size, status.st_mtime_ns))
    return found
