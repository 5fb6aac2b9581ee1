"""A recorded drive as processes: the node, a player and an observer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from tf2_msgs.msg import TFMessage

from pixloc_ros.datasets.sequence import pose_at
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.replay import Answer
from pixloc_ros.geometry import Pose
from pixloc_ros.ros.bridge import pose_of
from pixloc_ros.ros.bridge.distribution import profile_variable
from pixloc_ros.ros.conversions import pose_from_message, seconds


class Watcher(Node):
    """Collects what the node publishes: poses with their latency, and map -> odom."""

    def __init__(self, rate: float, on_first: Callable[[Answer], object] | None = None) -> None:
        """rate: speed of the clock, by which latencies on that clock become seconds. on_first:
        told of the first pose when it comes.
        """
        super().__init__("pixloc_watcher")
        self._on_first = on_first
        self._rate = rate
        self.answers: list[Answer] = []
        self.odometry: dict[float, Pose] = {}
        self.transforms: list[tuple[float, Pose]] = []
        # what map -> odom was at 50 Hz of the recording's time, from the first one on
        self.held: list[tuple[float, Pose]] = []
        # what the node said of each frame that it came to
        self.judged: list[dict[str, str]] = []
        self._now = 0.0
        latched = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self.create_subscription(Clock, "/clock", self._on_clock, 10)
        self.create_subscription(PoseWithCovarianceStamped, "pose", self._on_pose, latched)
        self.create_subscription(DiagnosticStatus, "pixloc/status", self._on_status, 50)
        self.create_subscription(Odometry, "odom", self._on_odometry, 50)
        self.create_subscription(TFMessage, "/tf", self._on_transform, 50)

    def _on_clock(self, message: Clock) -> None:
        self._now = seconds(message.clock)
        if self.transforms and (not self.held or self._now - self.held[-1][0] > 0.0199):
            self.held.append((self._now, self.transforms[-1][1]))

    def _on_status(self, message: DiagnosticStatus) -> None:
        self.judged.append({value.key: value.value for value in message.values})

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        stamp = seconds(message.header.stamp)
        covariance = torch.tensor(list(message.pose.covariance), dtype=torch.float64)
        answer = Answer(
            stamp,
            (self._now - stamp) / self._rate,
            pose_from_message(message.pose.pose),
            covariance.reshape(6, 6),
        )
        self.answers.append(answer)
        if len(self.answers) == 1 and self._on_first is not None:
            self._on_first(answer)

    def _on_odometry(self, message: Odometry) -> None:
        self.odometry[seconds(message.header.stamp)] = pose_from_message(message.pose.pose)

    def _on_transform(self, message: TFMessage) -> None:
        for transform in message.transforms:
            if transform.header.frame_id == "map":
                self.transforms.append((seconds(transform.header.stamp), pose_of(transform)))

    def trajectory(self) -> dict[float, Pose]:
        """map_from_base at 50 Hz, as TF gave it at that time."""
        poses = {}
        for now, map_from_odom in self.held:
            odom_from_base = pose_at(self.odometry, now)
            if odom_from_base is not None:
                poses[now] = map_from_odom @ odom_from_base
        return poses


def environment(domain: int, profile: Path) -> dict[str, str]:
    """Variables that keep a replay on this machine, apart from others, and images whole."""
    return {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        profile_variable(): str(profile),
    }


def end(process: subprocess.Popen[bytes]) -> int:
    """Ctrl-C, and harder when that does not help; the exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def replay(
    bag: Path,
    map_file: Path,
    settings: Sequence[str],
    profile: Path,
    rate: float = 1.0,
    on_first: Callable[[Answer], object] | None = None,
) -> Watcher:
    """Start the node and the player as processes, watch until the recording ends.

    settings: ROS arguments of the node (`-p name:=value` pairs). rate: speed of the clock.
    on_first: told of the first pose when it comes.
    Raises InputError when either process fails.
    """
    os.environ.update(environment(1 + os.getpid() % 100, profile))
    node_command = [sys.executable, "-m", "pixloc_ros", "localization_node", "--ros-args"]
    node_command += ["-p", f"map:={map_file}", "-p", "use_sim_time:=true", *settings]
    player_command = [sys.executable, "-m", "pixloc_ros.ros.player", str(bag)]
    # the node and the watcher listen to the clock
    player_command += ["--listeners", "2", "--rate", str(rate)]
    with ExitStack() as stack:
        stack.enter_context(rclpy.init(args=[]))
        watcher = Watcher(rate, on_first)
        executor = SingleThreadedExecutor()
        executor.add_node(watcher)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(executor.shutdown)
        node = subprocess.Popen(node_command)
        stack.callback(end, node)
        player = subprocess.Popen(player_command)
        stack.callback(end, player)
        while player.poll() is None:
            try:
                player.wait(0.2)
            except subprocess.TimeoutExpired:
                if node.poll() is not None:
                    raise InputError(f"the node ended with exit code {node.returncode}") from None
        if player.returncode:
            raise InputError(f"the player ended with exit code {player.returncode}")
        code = end(node)
    if code:
        raise InputError(f"the node ended with exit code {code} after Ctrl-C")
    return watcher
