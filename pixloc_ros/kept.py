"""A folder for what is found out about a machine once: compiled kernels, measured choices."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def is_writable(folder: Path) -> bool:
    """Whether a folder can be written, or made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def user_cache(name: str) -> Path:
    """The folder of a program in the user's cache, which there may not be."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return home / name


def temporary_folder() -> Path | None:
    """A folder of this user among the temporary files that nobody else can write, if possible."""
    folder = Path(tempfile.gettempdir()) / f"pixloc_ros-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    others = stat.S_IRWXG | stat.S_IRWXO
    safe = (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & others
    )
    return folder if safe else None


def kept_folder() -> Path | None:
    """Where to keep small files from run to run: the user's cache, else a temporary folder."""
    folder = user_cache("pixloc_ros")
    return folder if is_writable(folder) else temporary_folder()
