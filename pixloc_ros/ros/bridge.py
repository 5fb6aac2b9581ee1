"""What a ROS distribution has and the PyPI wheels of rclpy lack, behind one interface.

The distribution's own package is used wherever it can be imported: cv_bridge for images,
tf2_ros for transforms, tf_transformations for quaternions, sensor_msgs_py for point clouds.
The stand-ins cover what this package needs of them and no more.
"""

from __future__ import annotations

import bisect
import importlib
import math
import threading
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from builtin_interfaces.msg import Time as TimeMessage
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from pixloc_ros.errors import InputError
from pixloc_ros.features import ImageError
from pixloc_ros.geometry import Pose
from pixloc_ros.geometry.so3 import matrix_to_quaternion


def _distribution(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_cv_bridge = _distribution("cv_bridge")
_tf2_ros = _distribution("tf2_ros")
_tf_transformations = _distribution("tf_transformations")
_point_cloud2 = _distribution("sensor_msgs_py.point_cloud2")

# encoding -> (type, channels, conversion to RGB)
_ENCODINGS: dict[str, tuple[Any, int, int | None]] = {
    "rgb8": (np.uint8, 3, None),
    "bgr8": (np.uint8, 3, cv2.COLOR_BGR2RGB),
    "rgba8": (np.uint8, 4, cv2.COLOR_RGBA2RGB),
    "bgra8": (np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "mono8": (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "8UC3": (np.uint8, 3, cv2.COLOR_BGR2RGB),
    "mono16": (np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "16UC1": (np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "rgb16": (np.uint16, 3, None),
    "bgr16": (np.uint16, 3, cv2.COLOR_BGR2RGB),
    # OpenCV names a mosaic by its second row, ROS by its first
    "bayer_rggb8": (np.uint8, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (np.uint8, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (np.uint8, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (np.uint8, 1, cv2.COLOR_BayerGB2RGB),
    "yuv422": (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
}


def image_to_rgb(message: Image | CompressedImage) -> np.ndarray:
    """An image message as RGB uint8 (H, W, 3). Raises ImageError with the reason."""
    if isinstance(message, CompressedImage):
        return _decode_compressed(message)
    if message.width == 0 or message.height == 0:
        raise ImageError(f"image message of {message.width} x {message.height} pixels")
    if len(message.data) < message.step * message.height or message.step == 0:
        raise ImageError(
            f"image message with {len(message.data)} bytes, "
            f"{message.height} rows of {message.step} need more"
        )
    if _cv_bridge is not None:
        try:
            return _cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
        except (_cv_bridge.CvBridgeError, cv2.error, ValueError) as error:
            raise ImageError(f"encoding {message.encoding!r}: {error}") from None
    return _decode_raw(message)


def _decode_compressed(message: CompressedImage) -> np.ndarray:
    data = np.frombuffer(message.data, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise ImageError(f"compressed image ({message.format!r}, {len(data)} bytes) not readable")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode_raw(message: Image) -> np.ndarray:
    if message.encoding not in _ENCODINGS:
        known = ", ".join(_ENCODINGS)
        raise ImageError(f"unknown image encoding {message.encoding!r}; known: {known}")
    kind, channels, conversion = _ENCODINGS[message.encoding]
    depth = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    used = message.width * channels * depth.itemsize
    if message.step < used:
        raise ImageError(f"image rows of {message.step} bytes, {message.encoding} needs {used}")
    rows = np.frombuffer(message.data, np.uint8, message.step * message.height)
    rows = np.ascontiguousarray(rows.reshape(message.height, message.step)[:, :used])
    if message.encoding.startswith("yuv422") and message.width % 2:
        raise ImageError(f"{message.encoding} image of odd width {message.width}")
    image = rows.view(depth).reshape(message.height, message.width, channels)
    if depth.itemsize == 2:
        image = (image >> 8).astype(np.uint8)
    if conversion is None:
        return np.ascontiguousarray(image)
    return cv2.cvtColor(image[..., 0] if channels == 1 else image, conversion)


def quaternion_xyzw(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """Quaternion (x, y, z, w) of a rotation matrix (3, 3)."""
    if _tf_transformations is not None:
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        x, y, z, w = _tf_transformations.quaternion_from_matrix(matrix)
        return float(x), float(y), float(z), float(w)
    w, x, y, z = matrix_to_quaternion(torch.from_numpy(np.asarray(rotation, np.float64))).tolist()
    return x, y, z, w


def point_cloud(header: Header, points: np.ndarray) -> PointCloud2:
    """A cloud of (N, 3) float32 points."""
    points = np.ascontiguousarray(points, np.float32)
    if _point_cloud2 is not None:
        return _point_cloud2.create_cloud_xyz32(header, points)
    fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, name in enumerate("xyz")
    ]
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=12,
        row_step=12 * len(points),
        data=points.tobytes(),
        is_dense=True,
    )


def _usable(message: TransformStamped) -> bool:
    t, q = message.transform.translation, message.transform.rotation
    finite = all(map(math.isfinite, (t.x, t.y, t.z, q.x, q.y, q.z, q.w)))
    whole = q.x**2 + q.y**2 + q.z**2 + q.w**2 > 1e-6
    return finite and whole and message.header.stamp.sec >= 0


class TransformError(InputError):
    """A transform that is not known (yet), with the frames and the reason."""


def pose_of(message: TransformStamped) -> Pose:
    t, q = message.transform.translation, message.transform.rotation
    return Pose.from_quaternion((q.w, q.x, q.y, q.z), (t.x, t.y, t.z))


class TransformBroadcaster:
    """Publishes transforms on /tf."""

    def __init__(self, node: Node) -> None:
        self._node = node
        if _tf2_ros is not None:
            broadcaster = _tf2_ros.TransformBroadcaster(node)
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
        if _tf2_ros is not None:
            self._tf2 = _tf2_ros.Buffer()
            self._listener = _tf2_ros.TransformListener(self._tf2, node)
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
        except _tf2_ros.TransformException as error:  # type: ignore[union-attr]
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
    """Stamped transforms by child frame, with interpolation."""

    def __init__(self, seconds: float) -> None:
        self._span = int(seconds * 1e9)
        self._lock = threading.Lock()
        self._static: dict[str, tuple[str, Pose]] = {}
        self._moving: dict[str, tuple[str, list[int], list[Pose]]] = {}

    def add(self, message: TFMessage, static: bool = False) -> None:
        with self._lock:
            for transform in message.transforms:
                if not _usable(transform):
                    continue  # someone else's mistake must not stop the node
                parent = transform.header.frame_id.lstrip("/")
                child = transform.child_frame_id.lstrip("/")
                if static:
                    self._static[child] = (parent, pose_of(transform))
                    continue
                entry = self._moving.get(child)
                if entry is None or entry[0] != parent:
                    entry = self._moving[child] = (parent, [], [])
                _, stamps, poses = entry
                stamp = Time.from_msg(transform.header.stamp).nanoseconds
                at = bisect.bisect_right(stamps, stamp)
                stamps.insert(at, stamp)
                poses.insert(at, pose_of(transform))
                while stamps[-1] - stamps[0] > self._span:
                    del stamps[0], poses[0]

    def clear(self) -> None:
        with self._lock:
            self._moving.clear()

    def lookup(self, target: str, source: str, stamp: int | None) -> Pose:
        with self._lock:
            chains = [self._chain(frame, stamp) for frame in (target, source)]
        common = next((frame for frame in chains[1] if frame in chains[0]), None)
        if common is None:
            raise TransformError(f"no transform connects {target} and {source}")
        return chains[0][common].inverse() @ chains[1][common]

    def _chain(self, frame: str, stamp: int | None) -> dict[str, Pose]:
        """ancestor_from_frame for the frame itself and each of its ancestors."""
        chain = {frame: Pose.identity(dtype=torch.float64)}
        while True:
            known = self._parent(frame, stamp)
            if known is None or known[0] in chain:
                return chain
            parent, parent_from_frame = known
            chain[parent] = parent_from_frame @ chain[frame]
            frame = parent

    def _parent(self, child: str, stamp: int | None) -> tuple[str, Pose] | None:
        if child in self._static:
            return self._static[child]
        if child not in self._moving:
            return None
        parent, stamps, poses = self._moving[child]
        if stamp is None:
            return parent, poses[-1]
        after = bisect.bisect_left(stamps, stamp)
        if after < len(stamps) and stamps[after] == stamp:
            return parent, poses[after]
        if not 0 < after < len(stamps):
            edge = "before" if after == 0 else "after"
            raise TransformError(f"{parent} to {child}: {edge} the transforms that are known")
        share = (stamp - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
        return parent, poses[after - 1].interpolate(poses[after], share)
