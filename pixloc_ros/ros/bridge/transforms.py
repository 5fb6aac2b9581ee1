"""Transforms, through tf2_ros where there is one."""

from __future__ import annotations

import threading

from builtin_interfaces.msg import Time as TimeMessage
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from pixloc_ros.geometry import Pose
from pixloc_ros.ros.bridge.distribution import package
from pixloc_ros.ros.bridge.rotations import pose_of
from pixloc_ros.sensors.transform_tree import TransformError, TransformTree

tf2_ros = package("tf2_ros")


class TransformBroadcaster:
    """Publishes transforms on /tf."""

    def __init__(self, node: Node) -> None:
        self._node = node
        if tf2_ros is not None:
            broadcaster = tf2_ros.TransformBroadcaster(node)
            self._publisher, self._send = broadcaster.pub_tf, broadcaster.sendTransform
            return
        self._publisher = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))
        self._send = lambda message: self._publisher.publish(TFMessage(transforms=[message]))

    def send(self, message: TransformStamped) -> None:
        self._send(message)

    def close(self) -> None:
        self._node.destroy_publisher(self._publisher)


class TransformBuffer:
    """Listens to /tf and /tf_static and answers lookups, never blocking."""

    def __init__(self, node: Node, seconds: float = 10.0) -> None:
        self._tf2 = None
        if tf2_ros is not None:
            self._tf2 = tf2_ros.Buffer()
            self._listener = tf2_ros.TransformListener(self._tf2, node)
            return
        self._node, self._store = node, TransformStore(seconds)
        latched = QoSProfile(
            depth=100,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
            reliability=ReliabilityPolicy.RELIABLE,
        )
        moving = node.create_subscription(TFMessage, "/tf", self._store.add, QoSProfile(depth=100))
        static = node.create_subscription(
            TFMessage, "/tf_static", lambda m: self._store.add(m, static=True), latched
        )
        self._subscriptions = (moving, static)

    def lookup(self, target: str, source: str, stamp: TimeMessage | None = None) -> Pose:
        """target_from_source at a stamp, or the latest. Raises TransformError."""
        if self._tf2 is None:
            nanoseconds = None if stamp is None else Time.from_msg(stamp).nanoseconds
            return self._store.lookup(target, source, nanoseconds)
        try:
            time = Time() if stamp is None else Time.from_msg(stamp)
            return pose_of(self._tf2.lookup_transform(target, source, time))
        except tf2_ros.TransformException as error:  # type: ignore[union-attr]
            raise TransformError(str(error)) from None

    def close(self) -> None:
        """Stop listening."""
        if self._tf2 is not None:
            self._listener.unregister()
            return
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def clear(self) -> None:
        """Forget moving transforms, as after a jump of the clock."""
        (self._store if self._tf2 is None else self._tf2).clear()


class TransformStore:
    """The tree of frames of the last seconds, filled by one thread and read by another."""

    def __init__(self, seconds: float) -> None:
        self._lock = threading.Lock()
        self._tree = TransformTree(int(seconds * 1e9))

    def add(self, message: TFMessage, static: bool = False) -> None:
        with self._lock:
            self._tree.add(message, static)

    def clear(self) -> None:
        with self._lock:
            self._tree.clear()

    def lookup(self, target: str, source: str, stamp: int | None) -> Pose:
        """target_from_source at a stamp (nanoseconds), or the latest. Raises TransformError."""
        with self._lock:
            return self._tree.lookup(target, source, stamp)
