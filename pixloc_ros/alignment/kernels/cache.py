"""Where compiled kernels are kept: numba needs a folder that can be written."""

from __future__ import annotations

from pathlib import Path

from numba.core import config

from pixloc_ros.kept import is_writable, temporary_folder, user_cache


def use_writable_cache(source: str) -> None:
    """Keep kernels in the folder for temporary files where numba would find no other: not beside
    their source, as in a read-only installation, nor in the user's cache, as without a home.

    Where that cannot be written either, numba raises RuntimeError when it is asked to keep one.
    """
    beside = Path(source).parent / "__pycache__"
    if config.CACHE_DIR or is_writable(beside) or is_writable(user_cache("numba")):  # type: ignore[attr-defined]
        return
    folder = temporary_folder()
    if folder is not None:
        config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
