"""Real DDS on this machine only, apart from whatever else runs here."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is neither installed nor in this environment")

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(101 + os.getpid() % 100)


@pytest.fixture(autouse=True, scope="session")
def _large_images():
    from pixloc_ros.files import installed
    from pixloc_ros.ros.bridge.distribution import profile_variable

    os.environ[profile_variable()] = str(installed("config/fastdds.xml"))


@pytest.fixture
def context():
    import rclpy

    with rclpy.init(args=[]):
        yield


@pytest.fixture
def start_harness(room):
    """Starts a node with parameters, and a robot that drives through the room."""
    from harness import Harness

    stories = []

    def begin(**options):
        stories.append(Harness(room, **options))
        return stories[-1]

    yield begin
    for harness in stories:
        harness.end()
