"""What the panels of the viewer share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

PICTURE = 480
"""Longest side of pictures in the panel, pixels."""


def blank() -> np.ndarray:
    """A picture of nothing, (2, 3, 3)."""
    return np.full((2, 3, 3), 128, np.uint8)


def from_browser(action: Callable[[Any], object]) -> Callable[[Any], None]:
    """A callback that ignores what this program changes itself; action takes the client."""

    def called(event: Any) -> None:
        if event.client is not None:
            action(event.client)

    return called
