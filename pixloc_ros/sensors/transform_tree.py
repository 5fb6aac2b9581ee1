"""The tree of frames that transforms tell of, as tf2 keeps it: what the node and bags look up."""

from __future__ import annotations

from typing import Any

import torch

from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Pose
from pixloc_ros.sensors.frames import frame_name
from pixloc_ros.sensors.pose_series import Numbers, PoseSeries, pose_of_numbers, usable


class TransformError(InputError):
    """A transform that is not known (yet), with the frames and the reason."""


class OutsideError(TransformError):
    """A transform that is known, but not at that time."""


class TransformTree:
    """Stamped transforms by child and parent. span: nanoseconds that are kept; None for all.
    tolerance: nanoseconds within which a transform counts as of a stamp. gaps: see `PoseSeries`.

    A frame that is told of with several parents hangs on the one that was told last; where that
    matters to the caller, `parents` has them all. Not safe for threads.
    """

    def __init__(self, span: int | None = None, tolerance: int = 0, gaps: bool = True) -> None:
        self._span, self._tolerance, self._gaps = span, tolerance, gaps
        self._static: dict[str, tuple[str, Pose]] = {}
        self._moving: dict[str, dict[str, PoseSeries]] = {}
        # child -> the parent that was told last
        self._latest: dict[str, str] = {}

    def add(self, message: Any, static: bool = False) -> int:
        """The transforms of a TFMessage, of rclpy or of rosbags; how many could not be used.

        Someone else's mistake (numbers that are not finite, a quaternion of zero, a frame that
        is its own parent) costs that transform only.
        """
        refused = 0
        for transform in message.transforms:
            header, moved = transform.header, transform.transform
            t, q = moved.translation, moved.rotation
            numbers = (t.x, t.y, t.z, q.w, q.x, q.y, q.z)
            stamp = header.stamp
            if not self.put(
                frame_name(header.frame_id),
                frame_name(transform.child_frame_id),
                None if static else stamp.sec * 1_000_000_000 + stamp.nanosec,
                numbers,
            ):
                refused += 1
        return refused

    def put(self, parent: str, child: str, stamp: int | None, numbers: Numbers) -> bool:
        """parent_from_child at a stamp (nanoseconds), or for ever; whether it is usable."""
        if not usable(numbers) or parent == child or not parent or not child:
            return False
        if stamp is None:
            self._static[child] = (parent, pose_of_numbers(numbers))
            return True
        if stamp < 0:
            return False
        by_parent = self._moving.get(child)
        if by_parent is None:
            by_parent = self._moving[child] = {}
        series = by_parent.get(parent)
        if series is None:
            series = by_parent[parent] = PoseSeries(self._span, self._gaps)
        series.add(stamp, numbers)
        self._latest[child] = parent
        return True

    def clear(self) -> None:
        """Forget what moves."""
        self._moving.clear()
        self._latest.clear()

    def parents(self, child: str) -> list[str]:
        """All that a frame was said to hang on."""
        static = [self._static[child][0]] if child in self._static else []
        return list(dict.fromkeys([*static, *self._moving.get(child, {})]))

    def ancestors(self, frame: str) -> list[str]:
        """A frame and all that it hangs on, the last one the root."""
        found = [frame]
        while (parent := self._parent(found[-1])) is not None and parent not in found:
            found.append(parent)
        return found

    def lookup(self, target: str, source: str, stamp: int | None) -> Pose:
        """target_from_source at a stamp (nanoseconds), or of the latest of each. Raises
        TransformError.
        """
        up, down = self.ancestors(target), self.ancestors(source)
        common = next((frame for frame in down if frame in up), None)
        if common is None:
            raise TransformError(f"no transform connects {target} and {source}")
        common_from_target = self._chain(up[: up.index(common)], stamp)
        return common_from_target.inverse() @ self._chain(down[: down.index(common)], stamp)

    def _parent(self, child: str) -> str | None:
        if child in self._static:
            return self._static[child][0]
        return self._latest.get(child)

    def _chain(self, frames: list[str], stamp: int | None) -> Pose:
        """Of the last one's parent, from the first one."""
        pose = Pose.identity(dtype=torch.float64)
        for frame in frames:
            pose = self._step(frame, stamp) @ pose
        return pose

    def _step(self, child: str, stamp: int | None) -> Pose:
        if child in self._static:
            return self._static[child][1]
        parent = self._latest[child]
        series = self._moving[child][parent]
        if stamp is None:
            return series.newest()
        pose = series.at(stamp, self._tolerance)
        if pose is None:
            inside = series.stamps[0] <= stamp <= series.stamps[-1]
            edge = "before" if stamp < series.stamps[0] else "in a gap of" if inside else "after"
            raise OutsideError(f"{parent} to {child}: {edge} the transforms that are known")
        return pose
