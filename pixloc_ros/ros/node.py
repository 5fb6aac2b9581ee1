"""The localization node: topics in, pose and transform out."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from pixloc_ros.features import ImageError, open_network
from pixloc_ros.geometry import CameraError, Pose
from pixloc_ros.localization import (
    Fix,
    Localizer,
    LocalizerOptions,
    Observed,
    State,
    Status,
    Tracker,
    TrackerOptions,
)
from pixloc_ros.mapping import PixMap
from pixloc_ros.options import override, select_device
from pixloc_ros.ros import parameters as node_parameters
from pixloc_ros.ros.bridge import (
    TransformBroadcaster,
    TransformBuffer,
    TransformError,
    image_to_rgb,
    point_cloud,
)
from pixloc_ros.ros.conversions import (
    camera_of,
    pose_with_covariance,
    seconds,
    transform_stamped,
)
from pixloc_ros.ros.diagnostics import Journal, input_status, localization_status, map_status
from pixloc_ros.ros.odometry import OdometryBuffer
from pixloc_ros.ros.worker import Worker

LATEST = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


@dataclass(frozen=True)
class _Frame:
    image: Image | CompressedImage
    info: CameraInfo


class LocalizationNode(Node):
    """Says where the robot is. Raises InputError when its parameters or its map are unusable.

    The executor's thread only receives and re-sends; one worker thread localizes the newest
    frame.
    """

    def __init__(self) -> None:
        super().__init__("pixloc")
        self.parameters = node_parameters.declare(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        p = self.parameters
        if p.num_threads:
            torch.set_num_threads(p.num_threads)
        self.map = PixMap(p.map, p.cache_mb)
        device = select_device(p.device)
        network = open_network(p.weights or None).to(device)
        self.localizer = Localizer(self.map, network, override(LocalizerOptions(), p.localizer))
        self.localizer.warm_up()
        self.tracker = Tracker(override(TrackerOptions(), p.tracker))
        self.journal = Journal()
        self._device = str(device)
        self._fix: Fix | None = None
        self._info: CameraInfo | None = None
        self._received = (time.monotonic(), 0)
        self._delay = 0.0

        self._odometry = OdometryBuffer(p.base_frame_id)
        self._transforms = TransformBuffer(self)
        self._broadcaster = TransformBroadcaster(self)
        self._pose = self.create_publisher(PoseWithCovarianceStamped, "pose", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._points = self.create_publisher(PointCloud2, "~/map_points", LATCHED)
        header = Header(frame_id=p.global_frame_id, stamp=self.get_clock().now().to_msg())
        self._points.publish(point_cloud(header, self.map.points.numpy()))

        self._worker: Worker[_Frame] = Worker(self._localize, self._on_failure)
        self.create_subscription(CameraInfo, "camera_info", self._on_info, LATEST)
        if p.image_transport == "compressed":
            self.create_subscription(CompressedImage, "image/compressed", self._on_image, LATEST)
        else:
            self.create_subscription(Image, "image", self._on_image, LATEST)
        if p.odometry == "topic":
            self.create_subscription(Odometry, "odom", self._odometry.add, qos_profile_sensor_data)
        self.create_timer(1.0 / p.transform_rate, self._broadcast)
        self.create_timer(1.0, self._diagnose)
        # a bag that starts again, or a simulation that is reset
        self._jump = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(seconds=-0.5), on_clock_change=True
            ),
            post_callback=self._on_jump,
        )
        self.get_logger().info(
            f"serving {p.map}: {len(self.map)} references, "
            f"{len(self.map.points)} points, {network.architecture} on {device}"
        )

    # -- executor thread ---------------------------------------------------------------------

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        return node_parameters.judge(self.parameters, changes)

    def _on_parameters_set(self, changes: list[Parameter]) -> None:
        self.parameters = node_parameters.updated(self.parameters, changes)

    def _on_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._delay = self.get_clock().now().nanoseconds * 1e-9 - seconds(message.header.stamp)
        if self._info is None:
            self.get_logger().warning(
                "images but no camera_info yet: nothing can be localized",
                throttle_duration_sec=2.0,
            )
            return
        self._worker.mailbox.put(_Frame(message, self._info))

    def _on_jump(self, jump: TimeJump) -> None:
        self.get_logger().warning("the clock jumped: starting over")
        self._worker.mailbox.clear()
        self._odometry.clear()
        self._transforms.clear()
        self._fix = None
        self.tracker.reset()

    def _broadcast(self) -> None:
        fix, p = self._fix, self.parameters
        if fix is None or not p.tf_broadcast:
            return
        now = self.get_clock().now()
        if p.odometry == "none":
            # without odometry a pose is only good for as long as the robot may be coasting
            if now.nanoseconds * 1e-9 - fix.stamp > self.tracker.options.lost_after:
                return
            child, pose = p.base_frame_id, fix.map_from_base
        elif fix.map_from_odom is not None:
            child, pose = p.odom_frame_id, fix.map_from_odom
        else:
            self.get_logger().warning(
                "poses but no transform: odometry is missing (odometry: none does without)",
                throttle_duration_sec=5.0,
            )
            return
        ahead = now + Duration(seconds=p.transform_tolerance)
        self._broadcaster.send(transform_stamped(ahead.to_msg(), p.global_frame_id, child, pose))

    def _diagnose(self) -> None:
        now, mailbox = time.monotonic(), self._worker.mailbox
        then, before = self._received
        self._received = (now, mailbox.received)
        name = self.get_fully_qualified_name().lstrip("/")
        self._diagnostics.publish(
            DiagnosticArray(
                header=Header(stamp=self.get_clock().now().to_msg()),
                status=[
                    localization_status(name, self.tracker.state, self.journal),
                    input_status(
                        name,
                        (mailbox.received - before) / max(now - then, 1e-3),
                        self._delay,
                        mailbox.dropped,
                        self._odometry.problem,
                    ),
                    map_status(
                        name,
                        self.parameters.map,
                        len(self.map),
                        len(self.map.points),
                        self._device,
                    ),
                ],
            )
        )

    # -- worker thread -----------------------------------------------------------------------

    def _on_failure(self, error: Exception) -> None:
        if not self.context.ok():
            return  # ROS was shut down under the frame at hand
        self.journal.failed(f"{type(error).__name__}: {error}")
        self.get_logger().error(
            f"frame dropped: {type(error).__name__}: {error}", throttle_duration_sec=2.0
        )

    def _localize(self, frame: _Frame) -> None:
        begun = time.perf_counter()
        try:
            camera = camera_of(frame.info, self.parameters.rectified)
            image = image_to_rgb(frame.image)
            observed = self._observe(frame.image.header)
        except (CameraError, ImageError, TransformError) as error:
            self._unusable(str(error), seconds(frame.image.header.stamp))
            return
        result = self.localizer.localize(image, camera, self.tracker.prior(observed))
        if result.status is Status.BAD_INPUT:
            self._unusable(result.reason, observed.stamp)
            return
        fix, result = self.tracker.update(result, observed)
        milliseconds = 1e3 * (time.perf_counter() - begun)
        self.journal.finished(milliseconds, result.reason, fix is not None)
        if fix is None:
            self.get_logger().info(
                f"{self.tracker.state.value}: {result.reason}", throttle_duration_sec=2.0
            )
            self._forget_when_lost()
            return
        self._fix = fix
        self._pose.publish(
            pose_with_covariance(
                frame.image.header.stamp,
                self.parameters.global_frame_id,
                fix.map_from_base,
                fix.covariance,
            )
        )
        self._broadcast()

    def _forget_when_lost(self) -> None:
        if self.tracker.state is State.LOST:
            self._fix = None

    def _unusable(self, reason: str, stamp: float) -> None:
        """A frame that says nothing: the robot coasts, and is lost after a while."""
        self.tracker.refuse(stamp)
        self._forget_when_lost()
        self.journal.failed(reason)
        self.get_logger().error(reason, throttle_duration_sec=2.0)

    def _observe(self, header: Header) -> Observed:
        """Extrinsics and odometry at the stamp of an image. Raises TransformError."""
        p = self.parameters
        base_from_cam = self._transforms.lookup(p.base_frame_id, header.frame_id)
        stamp = seconds(header.stamp)
        odometry: Pose | None = None
        if p.odometry == "topic":
            odometry = self._odometry.at(stamp, p.odometry_wait)
        elif p.odometry == "tf":
            odometry = self._odometry_from_tf(header, p.odometry_wait)
        return Observed(stamp, base_from_cam, odometry)

    def _odometry_from_tf(self, header: Header, wait: float) -> Pose | None:
        p = self.parameters
        deadline = time.monotonic() + wait
        while True:
            try:
                return self._transforms.lookup(p.odom_frame_id, p.base_frame_id, header.stamp)
            except TransformError as error:
                if time.monotonic() >= deadline:
                    self.get_logger().warning(f"no odometry: {error}", throttle_duration_sec=5.0)
                    return None
                time.sleep(0.02)

    # -- end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop the worker and free the map, before the node is destroyed."""
        self._worker.stop()
        self.map.close()
