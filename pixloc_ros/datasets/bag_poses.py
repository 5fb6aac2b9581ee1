"""Where a recorded camera was: from TF, or from a topic of poses, and static TF."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pixloc_ros.datasets.bag_reader import BagReader
from pixloc_ros.datasets.bag_stamps import StampGuard
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
    beside: a topic whose namespace's TF is meant, where robots have their own. left_out: what
    could not be used. Raises InputError for a bag or topic that is not there, a topic without
    any pose that can be used, or TF of which it is not clear whose is meant.
    """

    def __init__(
        self, path: Path, topic: str = "", base: str = "base_link", beside: str = ""
    ) -> None:
        self.path, self._topic, self._base = path, topic, frame_name(base)
        self.left_out = LeftOut("transform")
        # where nobody knows how a robot got from one place to another, it is not guessed
        self._tree = TransformTree(tolerance=WITHIN, gaps=False)
        # frames whose poses the topic gives, so that TF's do not count
        self._placed: set[str] = set()
        self._guards: dict[str, StampGuard] = {}
        with BagReader(path) as reader:
            if topic:
                self._topic = reader.named(topic, POSES, "poses")
                for _, time, content in reader.messages([self._topic], POSES):
                    self._place(content, time)
            told = self._transforms_beside(list(reader.topics(TRANSFORMS)), beside)
            for connection, time, content in reader.messages(told, TRANSFORMS):
                self._add(content, connection.topic.endswith("tf_static"), time)
            for reason, count in reader.left_out.reasons.items():
                self.left_out.add(reason, reader.left_out.most, count)
        if topic and not self._placed:
            why = self.left_out.most or "it is empty"
            raise InputError(f"{path}: no pose of {self._topic} can be used: {why}")

    def _transforms_beside(self, topics: list[str], beside: str) -> list[str]:
        """Of each of tf and tf_static those of the nearest namespace."""
        chosen = []
        for name in ("tf", "tf_static"):
            own = [topic for topic in topics if topic.rsplit("/", 1)[-1] == name]
            parts = beside.strip("/").split("/")
            spaces = ["/" + "/".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]
            wanted = [f"{space}/{name}" for space in spaces] + [f"/{name}", name]
            near = next((topic for topic in wanted if topic in own), None)
            if near is None and len(own) > 1:
                raise InputError(
                    f"{self.path}: transforms on {', '.join(own)}: not clear whose are meant"
                )
            chosen += [near] if near else own
        return chosen

    def _add(self, message: Any, static: bool, time: int) -> None:
        kept = []
        for transform in message.transforms:
            child = frame_name(transform.child_frame_id)
            if child in self._placed:
                continue
            if not static and self._is_wrong(child, transform.header.stamp, time):
                continue
            kept.append(transform)
        refused = self._tree.add(SimpleNamespace(transforms=kept), static)
        if refused:
            self.left_out.add("without finite numbers or rotation", "", refused)

    def _is_wrong(self, child: str, stamp: Any, time: int) -> bool:
        guard = self._guards.setdefault(child, StampGuard())
        problem = guard.problem(stamp.sec * 1_000_000_000 + stamp.nanosec, time)
        if problem:
            self.left_out.add(problem, child)
        return bool(problem)

    def _place(self, message: Any, time: int) -> None:
        child = frame_name(getattr(message, "child_frame_id", "")) or self._base
        pose = getattr(message.pose, "pose", message.pose)
        p, q = pose.position, pose.orientation
        stamp = message.header.stamp
        parent = frame_name(message.header.frame_id)
        if self._is_wrong(child, stamp, time):
            return
        nanoseconds = stamp.sec * 1_000_000_000 + stamp.nanosec
        numbers = (p.x, p.y, p.z, q.w, q.x, q.y, q.z)
        if self._tree.put(parent, child, nanoseconds, numbers):
            self._placed.add(child)
        else:
            self.left_out.add("without finite numbers, rotation or frame", self._topic)

    def roots(self, frame: str) -> list[str]:
        """A frame and all that it hangs on, the last one the root."""
        return self._tree.ancestors(frame)

    def pose(self, target: str, frame: str, stamp: float) -> Pose | None:
        """target_from_frame, interpolated; None outside of what was recorded.

        Raises InputError where the frames do not hang together, or one on the way hangs on two.
        """
        chain = self.roots(frame)
        if target not in chain:
            if not frame:
                raise InputError(f"{self.path}: the images have no frame_id: --camera-frame")
            raise InputError(
                f"{self.path}: {frame} hangs on {' < '.join(chain[1:]) or 'nothing'}, not on "
                f"{target}: --frame, --pose-topic, --base-frame or --camera-frame"
            )
        for child in chain[: chain.index(target)]:
            parents = self._tree.parents(child)
            if len(parents) > 1:
                raise InputError(
                    f"{self.path}: {child} hangs on {' and on '.join(parents)}: --base-frame of "
                    "the poses?"
                )
        try:
            return self._tree.lookup(target, frame, round(stamp * 1e9))
        except OutsideError:
            return None
