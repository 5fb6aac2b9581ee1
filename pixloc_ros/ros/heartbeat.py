"""What the node does every second: diagnostics, and what it gives up to wait for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rclpy.clock import Clock, ROSClock
from rclpy.clock_type import ClockType

from pixloc_ros.ros import diagnostics as tasks
from pixloc_ros.ros.outputs import Diagnostics

if TYPE_CHECKING:
    from pixloc_ros.ros.node import LocalizationNode

GRACE_S = 5.0
"""Seconds that a clock is waited for, as a simulation starts later than its nodes."""


class Heartbeat:
    """Speaks in every state of the lifecycle, even where simulated time stands still."""

    def __init__(self, node: LocalizationNode) -> None:
        self._node = node
        self._diagnostics = Diagnostics(node)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._begun = time.monotonic()
        node.create_timer(1.0, self._beat, clock=self._steady)

    def _beat(self) -> None:
        node = self._node
        node.requests.refuse_late()
        if node.active is not None and node.configured is not None:
            node.configured.work.notice_silence()
        if node.context.ok():
            self._diagnostics.publish(self._tasks())

    def _tasks(self) -> list[tasks.DiagnosticStatus]:
        node, configured = self._node, self._node.configured
        facts, place = (None, "") if configured is None else (configured.facts, configured.place)
        said = [tasks.map_status(node.title, node.parameters.map, facts, place)]
        if configured is not None:
            said.append(
                tasks.device_status(node.title, configured.facts.device, configured.process.health)
            )
        if configured is not None and node.active is not None:
            problem = self._clock_problem() or self._switched_off() or configured.odometry.problem
            dropped = configured.worker.mailbox.dropped
            pipeline = node.pipeline
            said += [
                tasks.localization_status(
                    node.title, pipeline.state, pipeline.reason, node.journal
                ),
                tasks.input_status(node.title, node.arrivals, dropped, problem),
            ]
        return said

    def _switched_off(self) -> str:
        return "" if self._node.enabled else "images are ignored: ~/enable switched the node off"

    def _clock_problem(self) -> str:
        """Whether simulated time is wanted and nobody gives it."""
        clock = self._node.get_clock()
        simulated = isinstance(clock, ROSClock) and clock.ros_time_is_active
        if not simulated or clock.now().nanoseconds or time.monotonic() - self._begun < GRACE_S:
            return ""
        problem = "use_sim_time is set, but nothing is received on /clock (ros2 bag play --clock)"
        self._node.get_logger().warning(
            problem, throttle_duration_sec=5.0, throttle_time_source_type=self._steady
        )
        return problem
