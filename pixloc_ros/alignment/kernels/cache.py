"""Where compiled kernels are kept: numba needs a folder that can be written."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from numba.core import config


def _writable(folder: Path) -> bool:
    """Whether a folder can be written, or made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _own(folder: Path) -> bool:
    """Make a folder that nobody else can write; whether there is one."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    others = stat.S_IRWXG | stat.S_IRWXO
    return (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & others
    )


def use_writable_cache(source: str) -> None:
    """Keep kernels in the folder for temporary files where numba would find no other: not beside
    their source, as in a read-only installation, nor in the user's cache, as without a home.

    Where that cannot be written either, numba raises RuntimeError when it is asked to keep one.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    beside = Path(source).parent / "__pycache__"
    if config.CACHE_DIR or _writable(beside) or _writable(home / "numba"):  # type: ignore[attr-defined]
        return
    folder = Path(tempfile.gettempdir()) / f"pixloc_ros-{os.getuid()}"
    if _own(folder):
        config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
