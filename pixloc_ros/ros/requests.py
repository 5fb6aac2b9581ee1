"""Who waits for the outcome of a search."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence

from pixloc_ros.geometry import Pose
from pixloc_ros.localization import Decision, Outcome

PATIENCE = 5.0
"""Seconds that somebody waits for a fix."""


class Awaited:
    """What somebody awaits: (success, message)."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.told: tuple[bool, str] | None = None
        # of an estimate that no second one has agreed with yet
        self.candidate = ""

    def __await__(self) -> Generator[None, None, tuple[bool, str]]:
        while self.told is None:
            yield
        return self.told


class Requests:
    """Those who wait; they ask in the executor's thread, and are told by the worker's.

    Success is a fix. A first estimate is waited on until a second one agrees with it. wake: has
    the executor look at what is awaited.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: list[Awaited] = []

    def add(self) -> Awaited:
        awaited = Awaited()
        with self._lock:
            self._waiting.append(awaited)
        return awaited

    @property
    def wanted(self) -> bool:
        return bool(self._waiting)

    def answer(self, outcome: Outcome, base_from_cam: Pose) -> None:
        """Tell them what became of a moment that was searched for."""
        estimate = outcome.estimate
        where = f"{outcome.state.value}: {estimate.reason}"
        with self._lock:
            if outcome.decision is Decision.CANDIDATE:
                pose = (base_from_cam @ estimate.cam_from_map).inverse()
                for awaited in self._waiting:
                    awaited.candidate = f"one estimate stands, {_place(estimate.map, pose)}"
                return
            if outcome.fix is not None:
                where = f"{where}, {_place(estimate.map, outcome.fix.map_from_base)}"
            told = [w for w in self._waiting if outcome.fix is not None or not w.candidate]
            self._waiting = [w for w in self._waiting if w not in told]
        self._tell(told, outcome.fix is not None, where)

    def _tell(self, waiting: Sequence[Awaited], success: bool, message: str) -> None:
        for awaited in waiting:
            awaited.told = (success, message)
        if waiting:
            self._wake()

    def refuse(self, why: str) -> None:
        """Tell all of them that there will be none."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        self._tell(waiting, False, why)

    def refuse_late(self) -> None:
        """Those who have waited long enough."""
        late = time.monotonic() - PATIENCE
        with self._lock:
            over = [awaited for awaited in self._waiting if awaited.since < late]
            self._waiting = [awaited for awaited in self._waiting if awaited.since >= late]
        for awaited in over:
            why = f"no second one that agrees within {PATIENCE:g} s"
            candidate = awaited.candidate
            nothing = f"no image for {PATIENCE:g} s"
            self._tell([awaited], False, f"{candidate}; {why}" if candidate else nothing)


def _place(name: str, map_from_base: Pose) -> str:
    x, y, z = map_from_base.translation.tolist()
    return f"{name}: x {x:.3f} m, y {y:.3f} m, z {z:.3f} m"
