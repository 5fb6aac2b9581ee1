"""Who waits for the outcome of a search."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence

PATIENCE = 5.0
"""Seconds that somebody waits for an image."""


class Outcome:
    """What somebody awaits: (success, message).

    The executor polls what is awaited, so it sleeps a little each time.
    """

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.told: tuple[bool, str] | None = None

    def __await__(self) -> Generator[None, None, tuple[bool, str]]:
        while self.told is None:
            time.sleep(0.002)
            yield
        return self.told


class Requests:
    """The outcomes that are awaited; asked for by the executor, told by the worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Outcome] = []

    def add(self) -> Outcome:
        outcome = Outcome()
        with self._lock:
            self._waiting.append(outcome)
        return outcome

    @property
    def wanted(self) -> bool:
        return bool(self._waiting)

    def take(self) -> Sequence[Outcome]:
        """All of them; whoever takes them tells them."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting

    def refuse(self, why: str) -> None:
        for outcome in self.take():
            outcome.told = (False, why)

    def refuse_late(self) -> None:
        """Those for whom no image came."""
        late = time.monotonic() - PATIENCE
        with self._lock:
            over = [outcome for outcome in self._waiting if outcome.since < late]
            self._waiting = [outcome for outcome in self._waiting if outcome.since >= late]
        for outcome in over:
            outcome.told = (False, f"no image for {PATIENCE:g} s")
