"""Plays a recording into ROS in real time, with its clock.

python -m pixloc_ros.ros.player BAG [--listeners N] [--rate R]
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock

from pixloc_ros.datasets.bag import IMAGE
from pixloc_ros.ros.conversions import time_message

CLOCK_STEP = 0.01
PATIENCE = 60.0


def _message_class(name: str) -> type:
    package, _, kind = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), kind)


class Player(Node):
    """Publishes the messages of a recording as they are, and /clock beside them."""

    def __init__(self, reader: AnyReader) -> None:
        super().__init__("pixloc_player")
        self._reader = reader
        self._time = self.create_publisher(Clock, "/clock", 10)
        self._topics: dict[str, Publisher] = {}
        for connection in reader.connections:
            latched = connection.topic == "/tf_static"
            qos = QoSProfile(
                depth=10,
                reliability=ReliabilityPolicy.RELIABLE,
                durability=DurabilityPolicy.TRANSIENT_LOCAL
                if latched
                else DurabilityPolicy.VOLATILE,
            )
            kind = _message_class(connection.msgtype)
            # names without the slash, so that a namespace and remaps apply
            name = connection.topic if latched else connection.topic.lstrip("/")
            self._topics[connection.topic] = self.create_publisher(kind, name, qos)

    def wait_for_listeners(self, count: int) -> str:
        """Wait until someone takes the images and `count` nodes the clock.

        Returns what was waited for in vain, or an empty string.
        """
        deadline = time.monotonic() + PATIENCE
        wanted = [(self._time, count)]
        if IMAGE in self._topics:
            wanted.append((self._topics[IMAGE], 1))
        for publisher, number in wanted:
            while publisher.get_subscription_count() < number:
                if time.monotonic() > deadline:
                    return f"{number} listeners of {publisher.topic_name}"
                time.sleep(0.05)
        time.sleep(0.5)  # the other topics of the same listeners
        return ""

    def play(self, rate: float) -> None:
        """Everything once, at `rate` times the speed of its stamps."""
        begin = self._reader.start_time * 1e-9
        now = begin
        started = time.monotonic()
        for connection, stamp, raw in self._reader.messages():
            target = stamp * 1e-9
            while now < target:
                now = min(now + CLOCK_STEP, target)
                time.sleep(max(started + (now - begin) / rate - time.monotonic(), 0.0))
                self._time.publish(Clock(clock=time_message(now)))
            self._topics[connection.topic].publish(bytes(raw))
        # let the last frame be answered on a running clock
        for _ in range(round(2.0 / CLOCK_STEP)):
            now += CLOCK_STEP * rate
            time.sleep(CLOCK_STEP)
            self._time.publish(Clock(clock=time_message(now)))


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m pixloc_ros.ros.player")
    parser.add_argument("bag", type=Path, help="folder of a rosbag2 recording")
    parser.add_argument(
        "--listeners", type=int, default=1, help="nodes on /clock to wait for (default 1)"
    )
    parser.add_argument("--rate", type=float, default=1.0, help="speed (default 1)")
    given = parser.parse_args(arguments)
    if not 0.01 <= given.rate <= 100:
        parser.error(f"--rate {given.rate} is not in 0.01 to 100")
    try:
        with (
            AnyReader([given.bag], default_typestore=get_typestore(Stores.ROS2_KILTED)) as reader,
            rclpy.init(),
        ):
            player = Player(reader)
            try:
                missing = player.wait_for_listeners(given.listeners)
                if missing:
                    print(f"error: waited in vain for {missing}", file=sys.stderr)
                    return 1
                player.play(given.rate)
            finally:
                player.destroy_node()
    except (AnyReaderError, OSError) as error:
        print(f"error: {given.bag}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
