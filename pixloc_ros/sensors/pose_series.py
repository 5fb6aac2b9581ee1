"""Poses by stamp, cheap to add: numbers until they are asked for."""

from __future__ import annotations

import math
from bisect import bisect_left

from pixloc_ros.geometry import Pose

Numbers = tuple[float, float, float, float, float, float, float]
"""Translation x, y, z in metres, quaternion w, x, y, z."""


def usable(numbers: Numbers) -> bool:
    """Whether all are finite, and the quaternion is not zero."""
    _, _, _, w, x, y, z = numbers
    # a sum is finite only where everything is
    return math.isfinite(sum(numbers)) and w * w + x * x + y * y + z * z > 1e-6


def pose_of_numbers(numbers: Numbers) -> Pose:
    return Pose.from_quaternion(numbers[3:], numbers[:3])


GAP_S, GAP_M, GAP_DEG = 3.0, 0.5, 15.0
"""Where poses are further apart than this, in time and in way or turn, nobody knows what was
between them: a tracker that was lost, a receiver without satellites."""


def known_between(before: Pose, after: Pose, seconds: float) -> bool:
    """Whether two poses are near enough to each other to interpolate."""
    if seconds <= GAP_S:
        return True
    metres, radians = before.inverse().distance(after.inverse())
    return bool(metres <= GAP_M) and bool(radians <= math.radians(GAP_DEG))


class PoseSeries:
    """Poses by stamp, interpolated. span: nanoseconds that are kept; None for all.
    gaps: whether poses are interpolated however far apart they are, as tf2 does.

    Added in the order of stamps, which is what a driver does, one costs about a microsecond.
    """

    def __init__(self, span: int | None = None, gaps: bool = True) -> None:
        self._span, self._gaps = span, gaps
        self.stamps: list[int] = []
        self._numbers: list[Numbers] = []

    def add(self, stamp: int, numbers: Numbers) -> None:
        """stamp: nanoseconds. One of the same stamp is replaced."""
        stamps = self.stamps
        if not stamps or stamp > stamps[-1]:
            stamps.append(stamp)
            self._numbers.append(numbers)
            span = self._span
            # in pieces of a quarter, as a list is moved when its head goes
            if span is not None and stamp - stamps[0] > span + span // 4:
                gone = bisect_left(stamps, stamp - span)
                del stamps[:gone], self._numbers[:gone]
            return
        at = bisect_left(stamps, stamp)
        if stamps[at] == stamp:
            self._numbers[at] = numbers
        else:
            stamps.insert(at, stamp)
            self._numbers.insert(at, numbers)

    def clear(self) -> None:
        self.stamps.clear()
        self._numbers.clear()

    @property
    def last(self) -> Numbers:
        """The numbers of the newest one. Raises IndexError without any."""
        return self._numbers[-1]

    def newest(self) -> Pose:
        """Raises IndexError without any."""
        return pose_of_numbers(self._numbers[-1])

    def at(self, stamp: int, tolerance: int = 0) -> Pose | None:
        """The pose at a stamp, interpolated; None outside of what is known.

        tolerance: nanoseconds within which a pose counts as of that stamp.
        """
        after = bisect_left(self.stamps, stamp)
        for near in (after, after - 1):
            if 0 <= near < len(self.stamps) and abs(self.stamps[near] - stamp) <= tolerance:
                return pose_of_numbers(self._numbers[near])
        if not 0 < after < len(self.stamps):
            return None
        first, second = self.stamps[after - 1], self.stamps[after]
        share = (stamp - first) / (second - first)
        before = pose_of_numbers(self._numbers[after - 1])
        later = pose_of_numbers(self._numbers[after])
        if not self._gaps and not known_between(before, later, (second - first) * 1e-9):
            return None
        return before.interpolate(later, share)
