"""Stamps in the order in which they were recorded: which of them cannot be right."""

from __future__ import annotations

BACK = 1_000_000_000
"""Nanoseconds by which a stamp may lie before an earlier one: more is a clock that was reset."""

AHEAD = 60_000_000_000
"""Nanoseconds by which a stamp may run ahead of the recording's time since the one before."""


class StampGuard:
    """Judges the stamps of one topic or frame. Those of a simulation have a time of their own.

    What comes after a clock went back is of another run, whose poses and images must not be
    mixed with the first one's. A single stamp far ahead costs itself, and no other.
    """

    def __init__(self) -> None:
        self._newest = self._recorded = 0
        self._accepted = 0
        self._ahead: int | None = None

    def problem(self, stamp: int, recorded: int) -> str:
        """What is wrong with a stamp, or an empty string. Both in nanoseconds."""
        if stamp <= 0:
            return "without a stamp"
        if self._accepted:
            if stamp < self._newest - BACK and self._accepted > 1:
                return "after a clock that went back"
            if stamp - self._newest > max(recorded - self._recorded, 0) + AHEAD:
                # where the next one goes on from there, the clock was set
                before, self._ahead = self._ahead, stamp
                if before is None or not 0 <= stamp - before < AHEAD:
                    return "with a stamp of another time"
        self._ahead = None
        # a first one that was wrong does not count
        first = self._accepted == 1 and stamp < self._newest - BACK
        self._newest = stamp if first else max(self._newest, stamp)
        self._recorded = recorded
        self._accepted += 1
        return ""
