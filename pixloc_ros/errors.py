"""The one kind of error that is the user's to mend."""

from __future__ import annotations

import math
import shutil
from pathlib import Path


class InputError(ValueError):
    """Something that was given cannot be used; the message says what and where, in one line."""


def require_range(options: object, low: float, high: float, *names: str) -> None:
    """Raise InputError unless the named numbers of a configuration lie in [low, high]."""
    for name in names:
        value = getattr(options, name)
        if not (math.isfinite(value) and low <= value <= high):
            raise InputError(f"setting {name} is {value}, not in {low:g} to {high:g}")


def require_room(folder: Path, size: int) -> None:
    """Raise InputError unless a disk has room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InputError(
            f"{folder}: {free / 2**20:.0f} MB are free on this disk, about "
            f"{size / 2**20:.0f} MB are needed"
        )
