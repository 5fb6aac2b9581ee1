"""Where a recorded camera was: from TF, or from a topic of poses, and static TF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, get_typestore

from pixloc_ros.datasets.sequence import pose_at
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Pose

POSES = (
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
)


def _stamp(header: Any) -> float:
    return header.stamp.sec + 1e-9 * header.stamp.nanosec


def _pose(position: Any, rotation: Any, where: str) -> Pose:
    turn = np.array([rotation.w, rotation.x, rotation.y, rotation.z])
    shift = np.array([position.x, position.y, position.z])
    if not np.isfinite([*turn, *shift]).all() or np.linalg.norm(turn) < 1e-6:
        raise InputError(f"{where}: a pose that is not finite, or without a rotation")
    return Pose.from_quaternion(turn, shift)


class BagPoses:
    """The tree of frames that a bag tells of. Raises InputError for what cannot be used.

    topic: poses of `base` (or of an odometry's child frame) instead of what TF says of it.
    """

    def __init__(self, path: Path, topic: str = "", base: str = "base_link") -> None:
        self.path = path
        # child -> parent, and parent_from_child by stamp
        self._static: dict[str, tuple[str, Pose]] = {}
        self._moving: dict[str, tuple[str, dict[float, Pose]]] = {}
        try:
            store = get_typestore(Stores.ROS2_KILTED)
            with AnyReader([path], default_typestore=store) as reader:
                self._read(reader, topic, base)
        except (AnyReaderError, OSError, KeyError, ValueError) as error:
            raise InputError(f"{path}: not a readable bag ({error})") from None

    def _read(self, reader: AnyReader, topic: str, base: str) -> None:
        there = {c.topic: c.msgtype for c in reader.connections if c.msgtype in POSES}
        if topic and topic not in there:
            known = ", ".join(sorted(there)) or "none"
            raise InputError(f"{self.path}: no poses on {topic}; topics of poses: {known}")
        chosen = [
            c
            for c in reader.connections
            if c.topic == topic or (c.msgtype == "tf2_msgs/msg/TFMessage")
        ]
        for connection, _, raw in reader.messages(connections=chosen):
            message: Any = reader.deserialize(raw, connection.msgtype)
            where = f"{self.path}: {connection.topic}"
            if connection.topic == topic:
                child = getattr(message, "child_frame_id", "") or base
                pose = getattr(message.pose, "pose", message.pose)
                placed = _pose(pose.position, pose.orientation, where)
                parent = message.header.frame_id
                self._move(child, parent, _stamp(message.header), placed, where)
                continue
            for transform in message.transforms:
                child = transform.child_frame_id.lstrip("/")
                parent = transform.header.frame_id.lstrip("/")
                t = transform.transform
                placed = _pose(t.translation, t.rotation, where)
                if connection.topic.endswith("tf_static"):
                    self._static[child] = (parent, placed)
                elif not (topic and child == base):
                    self._move(child, parent, _stamp(transform.header), placed, where)

    def _move(self, child: str, parent: str, stamp: float, pose: Pose, where: str) -> None:
        known, poses = self._moving.setdefault(child, (parent, {}))
        if known != parent:
            raise InputError(f"{where}: {child} hangs on {known} and on {parent}")
        poses[stamp] = pose

    def roots(self, frame: str) -> list[str]:
        """A frame and all that it hangs on, the last one the root."""
        found = [frame]
        while len(found) < 100:
            entry = self._static.get(found[-1]) or self._moving.get(found[-1])
            if entry is None:
                break
            found.append(entry[0])
        return found

    def pose(self, target: str, frame: str, stamp: float) -> Pose | None:
        """target_from_frame, interpolated; None outside of what was recorded.

        Raises InputError where the frames do not hang together.
        """
        chain = self.roots(frame)
        if target not in chain:
            raise InputError(
                f"{self.path}: {frame} hangs on {' < '.join(chain[1:]) or 'nothing'}, not on "
                f"{target}: --frame, --pose-topic or --base-frame"
            )
        placed = Pose.from_quaternion([1, 0, 0, 0], [0, 0, 0])
        for child in chain[: chain.index(target)]:
            if child in self._static:
                step: Pose | None = self._static[child][1]
            else:
                step = pose_at(self._moving[child][1], stamp)
            if step is None:
                return None
            placed = step @ placed
        return placed
