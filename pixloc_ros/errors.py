"""The one kind of error that is the user's to mend."""

from __future__ import annotations

import math


class InputError(ValueError):
    """Something that was given cannot be used; the message says what and where, in one line."""


def require_range(options: object, low: float, high: float, *names: str) -> None:
    """Raise InputError unless the named numbers of a configuration lie in [low, high]."""
    for name in names:
        value = getattr(options, name)
        if not (math.isfinite(value) and low <= value <= high):
            raise InputError(f"setting {name} is {value}, not in {low:g} to {high:g}")
