"""Where a recorded camera was: from TF, or from a topic of poses, and static TF."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pixloc_ros.datasets.bag_reader import BagReader
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Pose
from pixloc_ros.left_out import LeftOut
from pixloc_ros.sensors.frames import frame_name
from pixloc_ros.sensors.transform_tree import OutsideError, TransformTree

POSES = (
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
)
# of tf2, and of tf, which ROS 1 had before it
TRANSFORMS = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")

WITHIN = 1000
"""Nanoseconds within which a pose counts as of a stamp, which is kept in double precision."""


class BagPoses:
    """The tree of frames that a bag tells of.

    topic: poses of `base` (or of an odometry's child frame) instead of what TF says of it.
    left_out: what could not be used. Raises InputError for a bag or topic that is not there,
    or a topic without any pose that can be used.
    """

    def __init__(self, path: Path, topic: str = "", base: str = "base_link") -> None:
        self.path, self._topic, self._base = path, topic, frame_name(base)
        self.left_out = LeftOut("transform")
        self._tree = TransformTree(tolerance=WITHIN)
        with BagReader(path) as reader:
            if topic:
                topic = self._topic = reader.named(topic, POSES, "poses")
            told = [*reader.topics(TRANSFORMS), *([topic] if topic else [])]
            placed = 0
            for connection, _, message in reader.messages(told, (*TRANSFORMS, *POSES)):
                if connection.topic == topic:
                    placed += self._place(message)
                    continue
                if topic:
                    # what the topic says of the base counts, not what TF does
                    message = SimpleNamespace(
                        transforms=[
                            t
                            for t in message.transforms
                            if frame_name(t.child_frame_id) != self._base
                            or connection.topic.endswith("tf_static")
                        ]
                    )
                refused = self._tree.add(message, connection.topic.endswith("tf_static"))
                if refused:
                    self.left_out.add("without finite numbers or rotation", "", refused)
            for reason, count in reader.left_out.reasons.items():
                self.left_out.add(reason, reader.left_out.most, count)
        if topic and not placed:
            raise InputError(
                f"{path}: no pose of {topic} can be used: {self.left_out.most or 'it is empty'}"
            )

    def _place(self, message: Any) -> bool:
        child = frame_name(getattr(message, "child_frame_id", "")) or self._base
        pose = getattr(message.pose, "pose", message.pose)
        p, q = pose.position, pose.orientation
        stamp = message.header.stamp
        parent = frame_name(message.header.frame_id)
        nanoseconds = stamp.sec * 1_000_000_000 + stamp.nanosec
        if nanoseconds <= 0:
            self.left_out.add("without a stamp", self._topic)
            return False
        numbers = (p.x, p.y, p.z, q.w, q.x, q.y, q.z)
        used = self._tree.put(parent, child, nanoseconds, numbers)
        if not used:
            self.left_out.add("without finite numbers, rotation or frame", self._topic)
        return used

    def roots(self, frame: str) -> list[str]:
        """A frame and all that it hangs on, the last one the root."""
        return self._tree.ancestors(frame)

    def pose(self, target: str, frame: str, stamp: float) -> Pose | None:
        """target_from_frame, interpolated; None outside of what was recorded.

        Raises InputError where the frames do not hang together, or one on the way hangs on two.
        """
        chain = self.roots(frame)
        if target not in chain:
            raise InputError(
                f"{self.path}: {frame} hangs on {' < '.join(chain[1:]) or 'nothing'}, not on "
                f"{target}: --frame, --pose-topic or --base-frame"
            )
        for child in chain[: chain.index(target)]:
            parents = self._tree.parents(child)
            if len(parents) > 1:
                raise InputError(f"{self.path}: {child} hangs on {' and on '.join(parents)}")
        try:
            return self._tree.lookup(target, frame, round(stamp * 1e9))
        except OutsideError:
            return None
