"""What /diagnostics says of the node."""

from __future__ import annotations

import math
import platform
import threading
from collections import deque

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from pixloc_ros.localization import Outcome, State
from pixloc_ros.localization.map_set_server import Health, MapSetFacts, resident_mb
from pixloc_ros.ros.arrivals import Arrivals


class Journal:
    """Recent latencies and the last error, written by the worker and read by the executor."""

    def __init__(self, length: int = 100) -> None:
        self._lock = threading.Lock()
        self._latency: deque[float] = deque(maxlen=length)
        self._error = ""
        self.fixes = 0
        self.refusals = 0
        self.errors = 0

    def finished(self, milliseconds: float, fixed: bool) -> None:
        with self._lock:
            self._latency.append(milliseconds)
            self._error = ""
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


def _status(level: bytes, name: str, message: str, **pairs: object) -> DiagnosticStatus:
    values = [KeyValue(key=key, value=str(value)) for key, value in pairs.items()]
    return DiagnosticStatus(
        level=level, name=name, message=message, hardware_id=platform.node(), values=values
    )


def localization_status(
    name: str, state: State, reason: str, journal: Journal
) -> DiagnosticStatus:
    """The task `localization`: the state and its reason, or what keeps the node from working."""
    error = journal.error
    p50, p95 = journal.latency()
    return _status(
        DiagnosticStatus.ERROR if error else _LEVELS[state],
        f"{name}: localization",
        error or f"{state.value}: {reason or 'waiting for images'}",
        state=state.value,
        fixes=journal.fixes,
        refusals=journal.refusals,
        errors=journal.errors,
        latency_p50_ms=f"{p50:.1f}",
        latency_p95_ms=f"{p95:.1f}",
    )


def input_status(name: str, arrivals: Arrivals, dropped: int, problem: str) -> DiagnosticStatus:
    """The task `input`: image rate in Hz, stamp delay in seconds, images that newer ones replaced.

    problem: what is wrong besides what the images themselves show.
    """
    rate = arrivals.rate
    silent = "no images arrive" if arrivals.silent else ""
    wrong = problem or silent or arrivals.problem
    delay = arrivals.delay
    return _status(
        DiagnosticStatus.WARN if wrong else DiagnosticStatus.OK,
        f"{name}: input",
        wrong or f"images at {rate:.1f} Hz",
        rate_hz=f"{rate:.2f}",
        delay_s="unknown" if math.isnan(delay) else f"{delay:.3f}",
        dropped=dropped,
    )


def map_status(name: str, path: str, facts: MapSetFacts | None, place: str) -> DiagnosticStatus:
    """The task `map`: what is served, and the map that the robot was last in; else an error."""
    names = [] if facts is None else [submap.name for submap in facts.submaps]
    references = 0 if facts is None else facts.references
    served = f"{references} references" + (f" in {len(names)} maps" if len(names) > 1 else "")
    return _status(
        DiagnosticStatus.OK if references else DiagnosticStatus.ERROR,
        f"{name}: map",
        "no map is served" if facts is None else served,
        file=path,
        references=references,
        points=0 if facts is None else facts.points,
        maps=", ".join(names),
        map=place,
    )


def device_status(name: str, device: str, health: Health) -> DiagnosticStatus:
    """The task `device`: where the network runs, and the memory of the node and its process."""
    held: dict[str, object] = {"memory_mb": f"{resident_mb() + health.resident_mb:.0f}"}
    if device != "cpu":
        held["device_memory_mb"] = f"{health.device_mb:.0f}"
    return _status(DiagnosticStatus.OK, f"{name}: device", device, device=device, **held)


def frame_status(
    name: str, stamp: float, outcome: Outcome, milliseconds: float
) -> DiagnosticStatus:
    """`pixloc/status`: what became of one frame, with its stamp."""
    estimate, statistics = outcome.estimate, outcome.estimate.statistics
    fixed = outcome.fix is not None
    return _status(
        DiagnosticStatus.OK if fixed else DiagnosticStatus.WARN,
        name,
        f"{outcome.state.value}: {estimate.reason}",
        stamp=f"{stamp:.9f}",
        state=outcome.state.value,
        decision=outcome.decision.value,
        fix=fixed,
        status=estimate.status.value,
        reason=estimate.reason,
        from_prior=estimate.from_prior,
        map=estimate.map,
        frame=estimate.frame,
        cameras=len(estimate.reprojections),
        points=statistics.points,
        visible=f"{statistics.visible:.3f}",
        inliers=f"{statistics.inliers:.3f}",
        matches=statistics.matches,
        patches=statistics.patches,
        patch_share=f"{statistics.patch_share:.3f}",
        cost=f"{statistics.cost:.4f}",
        latency_ms=f"{milliseconds:.1f}",
    )
