"""The one sender of the node's transform: its stamps always grow."""

from __future__ import annotations

import threading

from rclpy.lifecycle import LifecycleNode
from rclpy.time import Time

from pixloc_ros.geometry import Pose
from pixloc_ros.ros.bridge import TransformBroadcaster
from pixloc_ros.ros.conversions import transform_stamped

JUMP_NS = 1_000_000_000
"""A clock that goes back further than this was set; tf2 starts over then too."""


class TransformSender:
    """Sends transforms dated ahead of the clock.

    tf2 drops a transform with the stamp of the one before: where the clock stands still, as
    simulated time does between its ticks, or goes back a little, a stamp is one nanosecond later
    than the last. Safe for threads.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._broadcaster = TransformBroadcaster(node)
        self._lock = threading.Lock()
        self._last: int | None = None

    def send(self, frame: str, child: str, pose: Pose, ahead: float) -> None:
        """frame_from_child, dated `ahead` seconds after now."""
        with self._lock:
            stamp = self._node.get_clock().now().nanoseconds + round(ahead * 1e9)
            if self._last is not None and self._last - JUMP_NS < stamp <= self._last:
                stamp = self._last + 1
            self._last = stamp
            when = Time(nanoseconds=stamp).to_msg()
            self._broadcaster.send(transform_stamped(when, frame, child, pose))

    def forget(self) -> None:
        """The clock jumped: what was sent before is of another time."""
        with self._lock:
            self._last = None

    def close(self) -> None:
        self._broadcaster.close()
