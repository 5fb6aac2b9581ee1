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
from rclpy.exceptions import InvalidTopicNameException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Connection
from rosgraph_msgs.msg import Clock

from pixloc_ros.datasets.bag import IMAGE
from pixloc_ros.datasets.bag_reader import BagReader
from pixloc_ros.errors import InputError
from pixloc_ros.ros.conversions import seconds, time_message

CLOCK = "/clock"
CLOCK_STEP = 0.01
PATIENCE = 60.0
MOST_LATCHED = 1000
LONGEST_PAUSE = 3600.0
"""Seconds without a message, after which a recording is of a machine whose clock was set."""


def _message_class(name: str) -> type | None:
    """The installed type, or None."""
    package, _, kind = name.partition("/msg/")
    if not package.isidentifier() or not kind.isidentifier():
        return None
    try:
        return getattr(importlib.import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError):
        return None


class Player(Node):
    """Publishes the messages of a recording, and /clock beside them.

    The clock is the time of the recording. A simulation's recording has a clock of its own, by
    which its messages are stamped: then that one is played, and no other. Messages of types that
    are not installed, or are defined in another way, are left out and counted.
    """

    def __init__(self, reader: BagReader) -> None:
        super().__init__("pixloc_player")
        self._reader = reader
        self._time = self.create_publisher(Clock, CLOCK, 10)
        self._own_clock = reader.count(CLOCK) == 0
        self._topics: dict[tuple[str, str], Publisher] = {}
        self._skipped: dict[tuple[str, str], str] = {}
        for connection in reader.connections:
            key = (connection.topic, connection.msgtype)
            if key in self._topics or key in self._skipped or connection.topic == CLOCK:
                continue
            reason = self._add(connection)
            if reason:
                self._skipped[key] = reason

    def _add(self, connection: Connection) -> str:
        """A publisher for a topic, or why there can be none."""
        kind = _message_class(connection.msgtype)
        if kind is None:
            return f"of {connection.msgtype}, which is not installed"
        if not self._reader.types.as_defined_here(connection.msgtype):
            return f"of {connection.msgtype}, which is defined in another way here"
        if any(topic == connection.topic for topic, _ in self._topics):
            return f"on {connection.topic}, which has another type as well"
        latched = connection.topic == "/tf_static" or self._reader.latched(connection.topic)
        # whoever comes late gets all of what was latched, as from several publishers
        depth = min(max(self._reader.count(connection.topic), 10), MOST_LATCHED) if latched else 10
        qos = QoSProfile(
            depth=depth,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        static = connection.topic == "/tf_static"
        # names without the slash, so that a namespace and remaps apply
        name = connection.topic if static else connection.topic.removeprefix("/")
        try:
            publisher: Publisher = self.create_publisher(kind, name, qos)
        except (InvalidTopicNameException, ValueError, RuntimeError):
            return f"on {connection.topic}, which is no name in ROS 2"
        self._topics[connection.topic, connection.msgtype] = publisher
        return ""

    def wait_for_listeners(self, count: int) -> str:
        """Wait until someone takes the images and `count` nodes the clock.

        Returns what was waited for in vain, or an empty string.
        """
        deadline = time.monotonic() + PATIENCE
        images = [p for (topic, _), p in self._topics.items() if topic == IMAGE]
        wanted = [(self._time, count), *((publisher, 1) for publisher in images)]
        for publisher, number in wanted:
            while publisher.get_subscription_count() < number:
                if time.monotonic() > deadline:
                    return f"{number} listeners of {publisher.topic_name}"
                time.sleep(0.05)
        time.sleep(0.5)  # the other topics of the same listeners
        return ""

    def play(self, rate: float) -> None:
        """Everything once, at `rate` times the speed of its stamps."""
        begin = self._reader.start * 1e-9
        now = begin
        clock: float | None = None
        started = time.monotonic()
        everything = list(self._reader.topics())
        for connection, stamp, raw in self._reader.raw(everything):
            target = stamp * 1e-9
            if target - now > LONGEST_PAUSE:
                print(f"{target - now:.0f} s without a message are left out", file=sys.stderr)
                begin, now, started = target, target, time.monotonic()
            while now < target:
                now = min(now + CLOCK_STEP, target)
                time.sleep(max(started + (now - begin) / rate - time.monotonic(), 0.0))
                if self._own_clock:
                    self._tick(now)
            if connection.topic == CLOCK:
                content = self._reader.read(connection, stamp, raw)
                told = None if content is None else seconds(content.clock)
                if told is not None and (clock is None or told >= clock):
                    clock = told
                    self._tick(clock)
                continue
            self._publish(connection, raw)
        # let the last frame be answered on a running clock
        last = now if self._own_clock or clock is None else clock
        for _ in range(round(2.0 / CLOCK_STEP)):
            last += CLOCK_STEP * rate
            time.sleep(CLOCK_STEP)
            self._tick(last)

    def _tick(self, now: float) -> None:
        self._time.publish(Clock(clock=time_message(now)))

    def _publish(self, connection: Connection, raw: bytes) -> None:
        key = (connection.topic, connection.msgtype)
        publisher = self._topics.get(key)
        if publisher is None:
            self._reader.left_out.add(self._skipped[key], connection.topic)
            return
        content = self._reader.as_ros2(connection, raw)
        if content is not None:
            publisher.publish(content)


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m pixloc_ros.ros.player")
    parser.add_argument("bag", type=Path, help="recording: a folder, .mcap, .db3, or ROS 1's .bag")
    parser.add_argument(
        "--listeners", type=int, default=1, help="nodes on /clock to wait for (default 1)"
    )
    parser.add_argument("--rate", type=float, default=1.0, help="speed (default 1)")
    given = parser.parse_args(arguments)
    if not 0.01 <= given.rate <= 100:
        parser.error(f"--rate {given.rate} is not in 0.01 to 100")
    try:
        with BagReader(given.bag) as reader, rclpy.init():
            for note in reader.notes:
                print(note, file=sys.stderr)
            player = Player(reader)
            try:
                missing = player.wait_for_listeners(given.listeners)
                if missing:
                    print(f"error: waited in vain for {missing}", file=sys.stderr)
                    return 1
                player.play(given.rate)
            finally:
                player.destroy_node()
            if reader.left_out:
                print(reader.left_out.as_text(), file=sys.stderr)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {given.bag}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
