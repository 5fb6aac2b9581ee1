"""Where the package's configuration and launch files lie, installed or in a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

from pixloc_ros.errors import InputError


def installed(relative: str) -> Path:
    """A file of the package's share folder. Raises InputError when the installation lacks it."""
    checkout = Path(__file__).parents[1] / relative
    prefixes = [Path(sys.prefix), *Path(__file__).parents[3:6]]
    candidates = [checkout, *(p / "share" / "pixloc_ros" / relative for p in prefixes)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputError(f"{relative} is not installed with pixloc_ros")
