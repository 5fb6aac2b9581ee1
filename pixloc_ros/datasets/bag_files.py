"""Which files a recording has, whatever its metadata says of them."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import yaml

from pixloc_ros.errors import InputError

if sys.version_info >= (3, 14):
    from compression import zstd
else:  # what rosbags itself needs
    from backports import zstd

STORAGES = (".mcap", ".db3", ".bag")
PACKED = (".zstd", ".zst", ".gz", ".xz")
# in what the library says of a file without its end or its index
_UNFINISHED = ("end magic", "footer", "truncated", "index", "summary", "assertion", "empty")
METADATA = "metadata.yaml"


class BagError(InputError):
    """A recording that cannot be used, with the path and the reason in one line."""


def is_recording(folder: Path) -> bool:
    """Whether a folder holds a recording, with its metadata or without."""
    return (folder / METADATA).is_file() or any(
        file.suffix in STORAGES for file in folder.iterdir()
    )


def files_of(path: Path, notes: list[str], opened: ExitStack) -> list[Path]:
    """What the library opens, one after the other: files, or a folder that it unpacks.

    Not from the metadata alone, which a power cut leaves unwritten and a copy makes wrong.
    notes: takes what is to be said of it. opened: closes what had to be made. Raises BagError.
    """
    if not path.exists():
        raise BagError(f"{path}: no such recording")
    if path.is_file():
        return _file(path, notes, opened)
    there = sorted(p for p in path.iterdir() if p.suffix in STORAGES and p.is_file())
    metadata = path / METADATA
    if not metadata.is_file():
        packed = sorted(p for p in path.iterdir() if _is_packed(p))
        if not there and not packed:
            raise BagError(f"{path}: no recording in it (neither {METADATA} nor .mcap or .db3)")
        count = len(there) + len(packed)
        notes.append(f"{path}: without {METADATA}, {count} files are read as they are")
        return [
            *(_written(p, notes, opened) for p in there),
            *(_unpacked(p, opened) for p in packed),
        ]
    try:
        told = yaml.safe_load(metadata.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        listed = [path / Path(str(name)).name for name in told["relative_file_paths"]]
        compressed = str(told.get("compression_mode") or "none").lower() != "none"
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        if not there:
            raise BagError(f"{metadata}: damaged ({one_line(error)})") from None
        notes.append(f"{metadata} is damaged, {len(there)} files are read as they are")
        return there
    here = [file for file in listed if file.is_file()]
    missing = [file.name for file in listed if not file.is_file()]
    if compressed and not missing:
        return [path]  # the library unpacks what was compressed
    if not here:
        if not there:
            raise BagError(f"{path}: {missing[0] if missing else 'no file'} is not there")
        notes.append(f"{path}: the files that {METADATA} lists are not there, others are read")
        return [_written(file, notes, opened) for file in there]
    if missing:
        count = len(missing)
        notes.append(f"{path}: {count} of {len(listed)} files are not there ({missing[0]})")
    if compressed:
        return [_without_missing(told, here, opened)]
    return [_written(file, notes, opened) for file in here]


def cure(file: Path, reason: str) -> str:
    """What may mend a file that a recorder left unfinished."""
    if not any(word in reason.lower() for word in _UNFINISHED):
        return ""
    if file.suffix == ".mcap":
        return "; where the recorder was cut off, `mcap recover` may mend it"
    if file.suffix == ".bag":
        return "; where the recorder was cut off, `rosbag reindex` may mend it"
    return ""


def one_line(error: BaseException) -> str:
    """What an error of a library says, short enough for a line."""
    text = " ".join(str(error).split())
    if isinstance(error, KeyError):  # which says the key alone
        text = f"unknown {text}"
    return text[:200] if text else type(error).__name__


def plain(data: bytes) -> bytes:
    """A message's bytes without the compression that rosbag2 can put on each."""
    if bytes(data[:4]) != b"\x28\xb5\x2f\xfd":  # which no CDR begins with
        return data
    return zstd.decompress(data)


def _file(path: Path, notes: list[str], opened: ExitStack) -> list[Path]:
    if path.name == METADATA:
        return files_of(path.parent, notes, opened)
    if _is_packed(path):
        return [_unpacked(path, opened)]
    if path.suffix in PACKED:
        raise BagError(f"{path}: compressed as a whole; unpack it first")
    if path.name.endswith(".bag.active"):
        raise BagError(f"{path}: was never closed; `rosbag reindex` may mend it")
    if path.suffix not in STORAGES:
        raise BagError(f"{path}: not a recording (.mcap, .db3, .bag, or a folder of them)")
    return [_written(path, notes, opened)]


def _is_packed(path: Path) -> bool:
    """Whether a file is a storage that was compressed as a whole by rosbag2."""
    return path.suffix == ".zstd" and Path(path.stem).suffix in STORAGES


def _unpacked(path: Path, opened: ExitStack) -> Path:
    """A copy without the compression. Raises BagError."""
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    try:
        with zstd.open(path, "rb") as packed, open(folder / path.stem, "wb") as plain:
            shutil.copyfileobj(packed, plain)
    except (zstd.ZstdError, EOFError, OSError) as error:
        raise BagError(f"{path}: not a readable recording ({one_line(error)})") from None
    return folder / path.stem


def _written(path: Path, notes: list[str], opened: ExitStack) -> Path:
    """The file, or a copy into which SQLite has put what a recorder had not yet."""
    log = path.with_name(path.name + "-wal")
    if path.suffix != ".db3" or not log.is_file() or log.stat().st_size == 0:
        return path
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    copy = folder / path.name
    shutil.copy(path, copy)
    shutil.copy(log, folder / log.name)
    try:
        with closing(sqlite3.connect(copy)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise BagError(f"{path}: not a readable recording ({error})") from None
    notes.append(f"{path.name}: was not closed; {log.name} beside it is read as well")
    return copy


def _without_missing(told: Mapping[str, Any], here: list[Path], opened: ExitStack) -> Path:
    """A folder with the files that are there and metadata of them alone."""
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    for file in here:
        (folder / file.name).symlink_to(file.resolve())
    listed = {**told, "relative_file_paths": [file.name for file in here]}
    content = yaml.safe_dump({"rosbag2_bagfile_information": listed})
    (folder / METADATA).write_text(content, encoding="utf-8")
    return folder
