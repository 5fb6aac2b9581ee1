"""What is known of the images that come in, whatever becomes of them."""

from __future__ import annotations

import math
import time
from collections import deque

WINDOW_S = 10.0
"""Seconds over which their rate is counted: a camera may send one image in several seconds."""
SILENT_S = 5.0
"""Seconds after which no images arrive."""
OLD_S, FUTURE_S = 10.0, 1.0
"""How far the stamp of an image may be off the clock before it is said."""


def stamp_problem(stamp: float, delay: float) -> str:
    """What is wrong with an image's stamp, seconds, that is `delay` behind the clock."""
    if stamp <= 0:
        return "images have a stamp of zero: their driver has to stamp them"
    if delay > OLD_S:
        return f"images are stamped {delay:.1f} s ago: an old recording, or clocks that differ?"
    if delay < -FUTURE_S:
        return f"images are stamped {-delay:.1f} s in the future: do the clocks differ?"
    return ""


class Arrivals:
    """When images were taken, and what was wrong with the last; for the executor's thread.

    delay: of the last one, seconds behind the clock; NaN where its stamp says nothing.
    """

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._last = -math.inf
        self._expected = 0.0
        self.delay = 0.0
        self.problem = ""

    def add(self, problem: str, delay: float = float("nan")) -> None:
        """An image came, with what is wrong with it."""
        self._last = time.monotonic()
        self._times.append(self._last)
        self.problem, self.delay = problem, delay

    def expect(self, after: float = 0.0) -> None:
        """From now, or `after` seconds, on an image would be taken; before, none was asked for."""
        self._expected = time.monotonic() + after

    @property
    def silent(self) -> bool:
        if self._last < 0:
            return True
        return time.monotonic() - max(self._last, self._expected) > SILENT_S

    @property
    def rate(self) -> float:
        """Images a second."""
        now = time.monotonic()
        while self._times and now - self._times[0] > WINDOW_S:
            self._times.popleft()
        if len(self._times) < 2:
            return len(self._times) / WINDOW_S
        # up to now: a stream that has stopped slows down
        lasted = max(self._times[-1] - self._times[0], now - self._times[0] - SILENT_S, 1e-3)
        return (len(self._times) - 1) / lasted
