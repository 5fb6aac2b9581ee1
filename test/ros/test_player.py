"""Recordings of whole robots and simulations, played."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rosbags.typesys import get_types_from_msg
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String

from pixloc_ros.ros.player import _message_class

sys.path.append(str(Path(__file__).parents[1] / "datasets"))
from bags import ROS1, STORE, image, write, write_ros1


class Listener:
    """What comes on the topics of a recording."""

    def __init__(self):
        self.node = rclpy.create_node("listener")
        self.clock, self.images, self.texts = [], [], []
        self.node.create_subscription(Clock, "/clock", self.clock.append, 100)
        self.node.create_subscription(Image, "image", self.images.append, 10)
        self.node.create_subscription(String, "text", self.texts.append, 100)

    def hear(self, bag):
        """Exit code and words of the player, once it is done."""
        command = [sys.executable, "-m", "pixloc_ros.ros.player", str(bag), "--rate", "2"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
        ) as process:
            while process.poll() is None:
                rclpy.spin_once(self.node, timeout_sec=0.05)
            return process.returncode, process.stdout.read()

    def times(self):
        return [m.clock.sec + 1e-9 * m.clock.nanosec for m in self.clock]


@pytest.fixture
def listener(context):
    return Listener()


def text(words, store=STORE):
    return store.types["std_msgs/msg/String"](words)


def test_what_cannot_be_played_is_counted(listener, tmp_path):
    kind = "odd_msgs/msg/Unheard"
    STORE.register(get_types_from_msg("string text", kind))
    odd = STORE.types[kind]("x")
    entries = [
        ("/image", 1.0, image(1.0)),
        ("/odd", 1.1, odd),
        ("/odd", 1.2, odd),
        ("/text", 1.2, text("a")),
        ("/text", 1.3, image(1.3)),
        ("/1/bad", 1.3, text("b")),
        ("/image", 1.5, image(1.5)),
    ]
    code, said = listener.hear(write(tmp_path / "robot", entries))
    assert code == 0, said
    assert "Traceback" not in said
    assert len(listener.images) == 2
    assert [m.data for m in listener.texts] == ["a"]
    assert "left out 4 messages: 2 of odd_msgs/msg/Unheard, which is not installed" in said
    assert "1 on /text, which has another type as well" in said
    assert "1 on /1/bad, which is no name in ROS 2" in said
    # without a recorded clock it is that of the recording
    assert listener.times()[0] == pytest.approx(1.0, abs=0.05)


def test_a_recorded_clock_is_the_only_one(listener, tmp_path):
    """A simulation stamps by it; the recording's own time is another."""
    time = STORE.types["builtin_interfaces/msg/Time"]
    clock = STORE.types["rosgraph_msgs/msg/Clock"]
    entries = [("/image", 100.0, image(7.0))]
    entries += [("/clock", 100 + n / 10, clock(time(7, n * 10**8))) for n in range(8)]
    code, said = listener.hear(write(tmp_path / "sim", entries))
    assert code == 0, said
    times = listener.times()
    assert times[0] == pytest.approx(7.0)
    assert (np.diff(times) >= 0).all()
    assert times[-1] < 20


def test_a_recording_of_ros1(listener, tmp_path):
    entries = [("/image", 1.0, image(1.0, store=ROS1)), ("/text", 1.1, text("a", ROS1))]
    code, said = listener.hear(write_ros1(tmp_path / "drive.bag", entries))
    assert code == 0, said
    (heard,) = listener.images
    assert bytes(heard.data) == image(1.0).data.tobytes()
    assert heard.header.frame_id == "camera"
    assert [m.data for m in listener.texts] == ["a"]


def test_names_of_types():
    assert _message_class("sensor_msgs/msg/Image") is Image
    for name in (
        "foxglove.Image",
        "__schemaless__",
        "sensor_msgs/srv/Image",
        "a/msg/b/c",
        "",
        "/msg/",
    ):
        assert _message_class(name) is None
