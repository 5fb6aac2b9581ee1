"""The robot's odometry at the stamp of an image."""

from __future__ import annotations

import threading
from collections.abc import Callable

from nav_msgs.msg import Odometry

from pixloc_ros.geometry import Pose
from pixloc_ros.sensors.frames import frame_name
from pixloc_ros.sensors.pose_series import PoseSeries, usable

WITHIN = 1000
"""Nanoseconds within which a pose counts as of a stamp, which is kept in double precision."""


class OdometryBuffer:
    """odom_from_base over the last seconds, interpolated.

    Filled by the executor's thread, read by the worker's. `problem` says what was wrong with
    the last message that was refused, or is empty. max_speed: metres a second beyond which
    odometry did not move but jump: all before is forgotten, and `jumped` is called.
    """

    def __init__(
        self,
        odom_frame: str,
        base_frame: str,
        max_speed: float,
        jumped: Callable[[str], None] = lambda reason: None,
        seconds_kept: float = 10.0,
    ) -> None:
        self._odom_frame, self._base_frame = frame_name(odom_frame), frame_name(base_frame)
        # names that need no closer look
        self._parents, self._children = {"", self._odom_frame}, {"", self._base_frame}
        self._max_speed, self._jumped = max_speed, jumped
        self._kept = round(seconds_kept * 1e9)
        self._series = PoseSeries(self._kept)
        self._arrived = threading.Condition()
        self.problem = ""

    def add(self, message: Odometry) -> None:
        """Take a message in; some microseconds, as odometry may come a thousand times a second."""
        header = message.header
        if message.child_frame_id not in self._children or header.frame_id not in self._parents:
            self.problem = self._misnamed(message)
            if self.problem:
                return
        pose = message.pose.pose
        p, q = pose.position, pose.orientation
        numbers = (p.x, p.y, p.z, q.w, q.x, q.y, q.z)
        if not usable(numbers):
            self.problem = (
                "odometry: a pose whose numbers are not finite or whose quaternion is zero"
            )
            return
        self.problem = ""
        stamp = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        jump = ""
        with self._arrived:
            series = self._series
            if series.stamps:
                last = series.stamps[-1]
                if stamp > last:
                    jump = self._leap(series.last, numbers, (stamp - last) * 1e-9)
                    if jump:
                        series.clear()
                elif stamp < last - self._kept:
                    series.clear()  # the clock went back: a bag that starts again
            series.add(stamp, numbers)
            self._arrived.notify_all()
        if jump:
            self._jumped(jump)

    def _leap(self, before: tuple, now: tuple, elapsed: float) -> str:
        dx, dy, dz = now[0] - before[0], now[1] - before[1], now[2] - before[2]
        # half a metre at once is not yet a jump: stamps may be coarse
        most = self._max_speed * elapsed + 0.5
        squared = dx * dx + dy * dy + dz * dz
        if squared <= most * most:
            return ""
        return f"odometry jumped by {squared**0.5:.1f} m within {elapsed:.2f} s"

    def _misnamed(self, message: Odometry) -> str:
        child, parent = frame_name(message.child_frame_id), frame_name(message.header.frame_id)
        if child not in self._children:
            return f"odometry of {child!r}, the base is {self._base_frame!r}"
        if parent not in self._parents:
            return f"odometry in {parent!r}, the parameter odom_frame_id is {self._odom_frame!r}"
        return ""

    def at(self, stamp: float, wait: float) -> Pose | None:
        """The pose at a stamp, waiting up to `wait` seconds of wall time for it to arrive.

        None when odometry never came, or does not reach the stamp. A stream that has never
        sent anything is not waited for.
        """
        nanoseconds = round(stamp * 1e9)
        with self._arrived:
            if not self._series.stamps:
                return None
            # the clock may go back meanwhile
            self._arrived.wait_for(
                lambda: (
                    bool(self._series.stamps) and self._series.stamps[-1] + WITHIN >= nanoseconds
                ),
                wait,
            )
            return self._series.at(nanoseconds, WITHIN)

    @property
    def newest(self) -> Pose | None:
        with self._arrived:
            return self._series.newest() if self._series.stamps else None

    def clear(self) -> None:
        with self._arrived:
            self._series.clear()
