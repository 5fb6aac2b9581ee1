"""What numba compiles: where it is kept, and on how many threads it runs."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numba
import torch
from numba.core import config

from pixloc_ros.kept import is_writable, temporary_folder, user_cache

log = logging.getLogger(__name__)

KERNELS = {"cpu": "_optimize", "patches": "_track"}
"""Modules beside this one, and the function of each that is compiled last."""


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


# where numba has neither OpenMP nor TBB, two callers at once end the process
_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def threads() -> Iterator[None]:
    """As many as torch has."""
    with _ONE_AT_A_TIME:
        count, most = torch.get_num_threads(), config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
        numba.set_num_threads(max(1, min(count, most)))
        yield
        # numba's first launch gives OpenMP, and torch with it, as many as it has itself
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)


def is_kept() -> bool:
    """Whether numba's cache has what the kernels compile to."""
    return all(_is_kept(name, function) for name, function in KERNELS.items())


def _is_kept(name: str, function: str) -> bool:
    module = importlib.import_module(f"{__package__}.{name}")
    source = Path(str(module.__file__))
    folder = Path(getattr(module, function).stats.cache_path or os.devnull)
    kept = folder.glob(f"{name}.{function}-*.nbi")
    return any(file.stat().st_mtime >= source.stat().st_mtime for file in kept)


def compile_all() -> None:
    """Compile every kernel in this process."""
    for name in KERNELS:
        importlib.import_module(f"{__package__}.{name}").compile_now()


def compile_apart() -> None:
    """Have a process of its own compile what numba's cache lacks.

    What numba has just compiled rounds otherwise than the same loaded from its cache: this way
    every process gives the same poses to the last digit.
    """
    if is_kept():
        return
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    command = [sys.executable, "-c", f"from {__name__} import compile_all; compile_all()"]
    try:
        # whatever happens to it, this process can compile for itself
        subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": paths},
            # where Python looks first: there may be another copy of this package where we are
            cwd=Path(__file__).parents[3],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=300,
        )
    except (OSError, subprocess.SubprocessError):
        log.debug("kernels are not compiled apart", exc_info=True)
