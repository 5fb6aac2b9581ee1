"""What /diagnostics says of the node."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from pixloc_ros.localization import Atlas, LocalizationResult, State

OLD_S, FUTURE_S = 10.0, 1.0
"""How far the stamp of an image may be off the clock before it is said."""


class Journal:
    """Recent latencies and the last error, written by the worker and read by the executor."""

    def __init__(self, length: int = 100) -> None:
        self._lock = threading.Lock()
        self._latency: deque[float] = deque(maxlen=length)
        self._error = ""
        self.fixes = 0
        self.refusals = 0
        self.errors = 0
        self.last_reason = ""

    def finished(self, milliseconds: float, reason: str, fixed: bool) -> None:
        with self._lock:
            self._latency.append(milliseconds)
            self._error = ""
            self.last_reason = reason
            self.fixes += fixed
            self.refusals += not fixed

    def failed(self, reason: str) -> None:
        """Something that must be mended: it stays an error until a frame succeeds."""
        with self._lock:
            self._error = reason
            self.errors += 1

    @property
    def error(self) -> str:
        with self._lock:
            return self._error

    def latency(self) -> tuple[float, float]:
        """p50 and p95 in milliseconds; NaN before the first frame."""
        with self._lock:
            values = list(self._latency)
        if not values:
            return float("nan"), float("nan")
        return float(np.percentile(values, 50)), float(np.percentile(values, 95))


_LEVELS = {
    State.TRACKING: DiagnosticStatus.OK,
    State.UNLOCALIZED: DiagnosticStatus.WARN,
    State.RELOCALIZING: DiagnosticStatus.WARN,
    State.COASTING: DiagnosticStatus.WARN,
    State.LOST: DiagnosticStatus.ERROR,
}


def _values(**pairs: object) -> Sequence[KeyValue]:
    return [KeyValue(key=key, value=str(value)) for key, value in pairs.items()]


def localization_status(name: str, state: State, journal: Journal) -> DiagnosticStatus:
    """The task `localization`: the state, or what keeps the node from working."""
    error = journal.error
    p50, p95 = journal.latency()
    return DiagnosticStatus(
        level=DiagnosticStatus.ERROR if error else _LEVELS[state],
        name=f"{name}: localization",
        message=error or f"{state.value}: {journal.last_reason or 'waiting for images'}",
        values=_values(
            state=state.value,
            fixes=journal.fixes,
            refusals=journal.refusals,
            errors=journal.errors,
            latency_p50_ms=f"{p50:.1f}",
            latency_p95_ms=f"{p95:.1f}",
        ),
    )


def stamp_problem(stamp: float, delay: float) -> str:
    """What is wrong with an image's stamp, seconds, that is `delay` behind the clock."""
    if stamp <= 0:
        return "images have a stamp of zero: their driver has to stamp them"
    if delay > OLD_S:
        return f"images are stamped {delay:.1f} s ago: an old recording, or clocks that differ?"
    if delay < -FUTURE_S:
        return f"images are stamped {-delay:.1f} s in the future: do the clocks differ?"
    return ""


def input_status(
    name: str, rate: float, delay: float, dropped: int, problem: str
) -> DiagnosticStatus:
    """The task `input`: image rate in Hz, stamp delay in seconds, dropped frames."""
    silent = rate == 0.0
    message = problem or ("no images arrive" if silent else f"images at {rate:.1f} Hz")
    return DiagnosticStatus(
        level=DiagnosticStatus.WARN if problem or silent else DiagnosticStatus.OK,
        name=f"{name}: input",
        message=message,
        values=_values(rate_hz=f"{rate:.2f}", delay_s=f"{delay:.3f}", dropped=dropped),
    )


def map_status(name: str, path: str, atlas: Atlas | None) -> DiagnosticStatus:
    """The task `map`: what is served, and the map that the robot was last in; else an error."""
    references = 0 if atlas is None else atlas.references
    names = [] if atlas is None else [site.name for site in atlas.sites]
    served = f"{references} references" + (f" in {len(names)} maps" if len(names) > 1 else "")
    return DiagnosticStatus(
        level=DiagnosticStatus.OK if references else DiagnosticStatus.ERROR,
        name=f"{name}: map",
        message="no map is served" if atlas is None else served,
        values=_values(
            file=path,
            references=references,
            points=0 if atlas is None else atlas.points,
            maps=", ".join(names),
            map="" if atlas is None else atlas.site.name,
        ),
    )


def device_status(name: str, device: torch.device) -> DiagnosticStatus:
    """The task `device`: where the network runs, and the memory in use."""
    facts: dict[str, object] = {"device": device, "memory_mb": f"{resident_mb():.0f}"}
    if device.type == "cuda":
        facts["device_memory_mb"] = f"{torch.cuda.memory_allocated(device) / 2**20:.0f}"
    return DiagnosticStatus(
        level=DiagnosticStatus.OK,
        name=f"{name}: device",
        message=str(device),
        values=_values(**facts),
    )


def resident_mb() -> float:
    """Memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def frame_status(
    name: str, state: State, result: LocalizationResult, fixed: bool, milliseconds: float
) -> DiagnosticStatus:
    """`~/status`: what became of one frame."""
    statistics = result.statistics
    return DiagnosticStatus(
        level=DiagnosticStatus.OK if fixed else DiagnosticStatus.WARN,
        name=name,
        message=f"{state.value}: {result.reason}",
        values=_values(
            state=state.value,
            fix=fixed,
            status=result.status.value,
            reason=result.reason,
            from_prior=result.from_prior,
            map=result.map,
            frame=result.frame,
            cameras=len(result.reprojections),
            points=statistics.points,
            visible=f"{statistics.visible:.3f}",
            inliers=f"{statistics.inliers:.3f}",
            matches=statistics.matches,
            cost=f"{statistics.cost:.4f}",
            latency_ms=f"{milliseconds:.1f}",
        ),
    )
