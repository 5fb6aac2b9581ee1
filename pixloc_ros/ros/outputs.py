"""Everything the node publishes."""

from __future__ import annotations

import array
import threading
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Point, PoseWithCovarianceStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from pixloc_ros.geometry import Camera
from pixloc_ros.localization import PoseEstimate
from pixloc_ros.mapping import PixMap
from pixloc_ros.ros.bridge import point_cloud
from pixloc_ros.ros.conversions import pose_with_covariance
from pixloc_ros.ros.qos import LATCHED, overridable
from pixloc_ros.ros.transform_sender import TransformSender

MOST_POINTS = 1_000_000
MOST_FRUSTA = 2_000
"""What is shown of large maps."""


class Outputs:
    """The publishers of a configured node."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._lock = threading.Lock()
        self.transforms = TransformSender(node)
        self._made: list[Publisher] = []
        self._pose = self._make_pose()
        self._pose_stands = False
        self._status = self._make(DiagnosticStatus, "~/status", QoSProfile(depth=10))
        self._points = self._make(PointCloud2, "~/map_points", LATCHED)
        self._references = self._make(MarkerArray, "~/references", LATCHED)
        self._debug = self._make(Image, "~/debug_image", QoSProfile(depth=1))

    def _make(self, kind: type, topic: str, qos: QoSProfile) -> Publisher:
        publisher: Publisher[Any] = self._node.create_publisher(kind, topic, qos)
        self._made.append(publisher)
        return publisher

    def _make_pose(self) -> Publisher:
        return self._node.create_publisher(
            PoseWithCovarianceStamped, "pose", LATCHED, qos_overriding_options=overridable()
        )

    def close(self) -> None:
        for publisher in (*self._made, self._pose):
            self._node.destroy_publisher(publisher)
        self.transforms.close()

    def map(self, pixmap: PixMap, frame: str) -> None:
        """The map's points and reference cameras, for whoever listens now or later."""
        header = Header(frame_id=frame, stamp=self._node.get_clock().now().to_msg())
        self._points.publish(point_cloud(header, pixmap.some_points(MOST_POINTS)))
        self._references.publish(_frusta(header, pixmap))

    def pose(self, fix: PoseEstimate, stamp: Time, diagonal: bool) -> None:
        covariance = torch.diag(fix.covariance.diagonal()) if diagonal else fix.covariance
        message = pose_with_covariance(stamp.to_msg(), fix.frame, fix.map_from_base, covariance)
        with self._lock:
            self._pose.publish(message)
            self._pose_stands = True

    def forget_pose(self) -> None:
        """Whoever comes now gets no pose: the last one is not believed any more.

        What is latched goes with its publisher only.
        """
        with self._lock:
            # where ROS is shut down nothing is latched any more, and nothing can be made
            if self._pose_stands and self._node.context.ok():
                self._node.destroy_publisher(self._pose)
                self._pose, self._pose_stands = self._make_pose(), False

    def status(self, status: DiagnosticStatus) -> None:
        self._status.publish(status)

    @property
    def debug_wanted(self) -> bool:
        return self._debug.get_subscription_count() > 0

    def debug(self, header: Header, rgb: np.ndarray) -> None:
        height, width = rgb.shape[:2]
        message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
        message.data = array.array("B", np.ascontiguousarray(rgb).tobytes())
        self._debug.publish(message)


class Diagnostics:
    """/diagnostics, which speaks in every state of the lifecycle."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self, tasks: list[DiagnosticStatus]) -> None:
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._publisher.publish(DiagnosticArray(header=header, status=tasks))


def _frusta(header: Header, pixmap: PixMap) -> MarkerArray:
    """Reference cameras as one list of lines; of very many an even choice."""
    marker = Marker(header=header, ns="references", id=0, type=Marker.LINE_LIST)
    marker.action = Marker.ADD
    marker.pose.orientation.w = 1.0
    some = pixmap.some_points(10_000)
    extent = float(np.linalg.norm(np.subtract(*np.quantile(some, [0.9, 0.1], axis=0))))
    marker.scale.x = 0.0005 * extent
    marker.color.r, marker.color.g, marker.color.b, marker.color.a = 0.0, 0.45, 0.7, 1.0
    for i in range(0, len(pixmap), -(-len(pixmap) // MOST_FRUSTA)):
        map_from_cam = pixmap.pose(i).inverse()
        corners = map_from_cam.transform(0.01 * extent * _corners(pixmap.camera(i))).tolist()
        centre = map_from_cam.translation.tolist()
        for a, b in zip(corners, [*corners[1:], corners[0]], strict=True):
            for x, y, z in (centre, a, a, b):
                marker.points.append(Point(x=x, y=y, z=z))
    return MarkerArray(markers=[marker])


def _corners(camera: Camera) -> torch.Tensor:
    """Rays (4, 3) to the corners of the image, as a pinhole of the same focal length has them."""
    half = 0.5 * camera.size / camera.focal
    signs = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
    return torch.cat([signs * half, torch.ones(4, 1, dtype=torch.float64)], 1)
