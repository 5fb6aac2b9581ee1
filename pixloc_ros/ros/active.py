"""What there is from activate to deactivate: images and odometry in, the transform out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nav_msgs.msg import Odometry
from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.qos import qos_profile_sensor_data

from pixloc_ros.ros.arrivals import stamp_problem
from pixloc_ros.ros.cameras import CameraImage, Cameras
from pixloc_ros.ros.qos import overridable
from pixloc_ros.ros.transitions import wake

if TYPE_CHECKING:
    from pixloc_ros.ros.configured import Configured
    from pixloc_ros.ros.node import LocalizationNode


class Active:
    """The subscriptions of an active node, and the timer that sends its transform."""

    def __init__(self, node: LocalizationNode, configured: Configured) -> None:
        p, self._node, self._configured = node.parameters, node, configured
        self._logger = node.get_logger()
        self._accepted = -1e9
        self._moving = (
            node.create_subscription(
                Odometry,
                "odom",
                configured.odometry.add,
                qos_profile_sensor_data,
                qos_overriding_options=overridable(),
            )
            if p.odometry == "topic"
            else None
        )
        self._cameras = Cameras(
            node,
            p.cameras,
            p.image_transport == "compressed",
            p.camera_tolerance,
            self._on_frames,
            self._on_uncalibrated,
            self._is_image_wanted,
        )
        node.arrivals.expect()
        self._timer = node.create_timer(1.0 / p.transform_rate, self.broadcast)
        # a bag that starts again, or a simulation that is reset
        self._jumps = node.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(seconds=-0.5), on_clock_change=True
            ),
            post_callback=self.on_jump,
        )

    def close(self) -> None:
        self._jumps.unregister()
        self._cameras.close()
        if self._moving is not None:
            self._node.destroy_subscription(self._moving)
        self._node.destroy_timer(self._timer)
        self._configured.worker.mailbox.clear()

    def broadcast(self) -> None:
        """Send what the last fix says of the odometry's frame, or of the base."""
        fix, p = self._node.pipeline.fix, self._node.parameters
        if fix is None or not p.tf_broadcast:
            return
        fix = self._node.published(fix)
        if p.odometry == "none":
            # an old pose is not served as a new one
            if not self._node.pipeline.holds(self._node.now()):
                return
            child, pose = p.base_frame_id, fix.map_from_base
        elif fix.map_from_odom is not None:
            child, pose = p.odom_frame_id, fix.map_from_odom
        else:
            self._logger.warning(
                "poses but no transform: odometry is missing (odometry: none does without)",
                throttle_duration_sec=5.0,
            )
            return
        sender = self._configured.outputs.transforms
        sender.send(fix.frame, child, pose, p.transform_tolerance)

    def take_next(self) -> None:
        """Look at the next image, whatever `max_rate` says."""
        self._accepted = -1e9
        wake(self._node)

    def on_jump(self, jump: TimeJump | None) -> None:
        """The clock went back: what was known is of another time."""
        self._logger.warning("the clock jumped: starting over")
        configured = self._configured
        configured.worker.mailbox.clear()
        configured.odometry.clear()
        configured.transforms.clear()
        configured.outputs.transforms.forget()
        configured.forget("the clock jumped")

    def _on_uncalibrated(self, camera: str) -> None:
        problem = f"images but no camera_info yet ({camera}): nothing can be localized"
        self._node.arrivals.add(problem)
        self._logger.warning(problem, throttle_duration_sec=2.0)

    def _on_frames(self, frames: tuple[CameraImage, ...]) -> None:
        stamp = frames[0].stamp
        delay = self._node.now() - stamp
        problem = stamp_problem(stamp, delay)
        if stamp <= 0:
            # neither odometry nor mounts can be looked up, and no transform can be dated
            self._node.arrivals.add(problem)
            self._node.journal.failed(problem)
            self._logger.error(problem, throttle_duration_sec=2.0)
            return
        self._node.arrivals.add(problem, delay)
        if not self._node.enabled:
            return
        if not self._is_due():
            return
        self._accepted = time.monotonic()
        if self._node.parameters.max_rate:
            self._node.arrivals.expect(1 / self._node.parameters.max_rate)
        self._configured.worker.mailbox.put(frames)

    def _is_due(self) -> bool:
        rate = self._node.parameters.max_rate
        # a little early is in time: cameras are not that regular
        return not rate or time.monotonic() - self._accepted >= 0.9 / rate

    def _is_image_wanted(self) -> bool:
        return self._node.enabled and self._configured.worker.idle and self._is_due()
