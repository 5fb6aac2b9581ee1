"""The robot's odometry at the stamp of an image."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable

from nav_msgs.msg import Odometry

from pixloc_ros.geometry import CameraError, Pose
from pixloc_ros.ros.conversions import pose_from_message, seconds


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
        self._odom_frame, self._base_frame = odom_frame, base_frame
        self._max_speed, self._jumped = max_speed, jumped
        self._kept = seconds_kept
        self._stamps: list[float] = []
        self._poses: list[Pose] = []
        self._arrived = threading.Condition()
        self.problem = ""

    def add(self, message: Odometry) -> None:
        self.problem = self._misnamed(message)
        if self.problem:
            return
        try:
            pose = pose_from_message(message.pose.pose)
        except CameraError as error:
            self.problem = f"odometry: {error}"
            return
        stamp = seconds(message.header.stamp)
        jump = ""
        with self._arrived:
            if self._stamps and stamp < self._stamps[-1] - self._kept:
                self._stamps.clear()  # the clock went back: a bag that starts again
                self._poses.clear()
            if self._stamps and stamp > self._stamps[-1]:
                metres, _ = self._poses[-1].inverse().distance(pose.inverse())
                elapsed = stamp - self._stamps[-1]
                # half a metre at once is not yet a jump: stamps may be coarse
                if float(metres) > self._max_speed * elapsed + 0.5:
                    jump = f"odometry jumped by {float(metres):.1f} m within {elapsed:.2f} s"
                    self._stamps.clear()
                    self._poses.clear()
            at = bisect.bisect_right(self._stamps, stamp)
            self._stamps.insert(at, stamp)
            self._poses.insert(at, pose)
            while self._stamps[-1] - self._stamps[0] > self._kept:
                del self._stamps[0], self._poses[0]
            self._arrived.notify_all()
        if jump:
            self._jumped(jump)

    def _misnamed(self, message: Odometry) -> str:
        child, parent = message.child_frame_id.lstrip("/"), message.header.frame_id.lstrip("/")
        if child not in ("", self._base_frame):
            return f"odometry of {child!r}, the base is {self._base_frame!r}"
        if parent not in ("", self._odom_frame):
            return f"odometry in {parent!r}, the parameter odom_frame_id is {self._odom_frame!r}"
        return ""

    def at(self, stamp: float, wait: float) -> Pose | None:
        """The pose at a stamp, waiting up to `wait` seconds of wall time for it to arrive.

        None when odometry never came, or does not reach the stamp. A stream that has never
        sent anything is not waited for.
        """
        with self._arrived:
            if not self._stamps:
                return None
            self._arrived.wait_for(lambda: self._stamps[-1] >= stamp, wait)
            after = bisect.bisect_left(self._stamps, stamp)
            if after < len(self._stamps) and self._stamps[after] - stamp < 1e-6:
                return self._poses[after]
            if not 0 < after < len(self._stamps):
                return None
            before = after - 1
            share = (stamp - self._stamps[before]) / (self._stamps[after] - self._stamps[before])
            return self._poses[before].interpolate(self._poses[after], share)

    @property
    def newest(self) -> Pose | None:
        with self._arrived:
            return self._poses[-1] if self._poses else None

    def clear(self) -> None:
        with self._arrived:
            self._stamps.clear()
            self._poses.clear()
