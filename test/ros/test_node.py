"""The node on real DDS, driven by a robot that publishes what the rendered room shows it."""

from __future__ import annotations

import array
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from harness import LATCHED
from rclpy.parameter import Parameter

from pixloc_ros.datasets.rendered_room import base_pose
from pixloc_ros.errors import InputError
from pixloc_ros.ros.bridge import pose_of
from pixloc_ros.ros.cameras import Cameras
from pixloc_ros.ros.conversions import pose_from_message, time_message
from pixloc_ros.ros.localization_node import start
from pixloc_ros.ros.node import LocalizationNode


def truth(stamp):
    return base_pose(stamp - 100.0, 1.0)


def statuses(robot, task):
    return [s for s in robot.diagnostics if s.name.endswith(task)]


def test_the_robot_is_told_where_it_is(start_harness):
    harness = start_harness()
    robot = harness.robot
    harness.step(0)
    time.sleep(0.3)
    assert robot.poses == []  # one estimate is no fix
    assert robot.transforms == []
    for number in (2, 4, 6):
        harness.step(number)
    harness.wait(lambda: len(robot.poses) == 3 and robot.transforms)
    for message, number in zip(robot.poses, (2, 4, 6), strict=True):
        stamp = robot.frames[number].stamp
        assert message.header.stamp == time_message(stamp)
        assert message.header.frame_id == "map"
        metres, radians = (
            pose_from_message(message.pose.pose).inverse().distance(truth(stamp).inverse())
        )
        assert float(metres) < 0.03
        assert float(torch.rad2deg(radians)) < 0.5
        covariance = np.array(message.pose.covariance).reshape(6, 6)
        assert np.allclose(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance)[0] > 0
    last = robot.transforms[-1]
    assert last.child_frame_id == "odom"
    metres, _ = pose_of(last).inverse().distance(base_pose(0.0, 1.0).inverse())
    assert float(metres) < 0.05
    ahead = last.header.stamp.sec + 1e-9 * last.header.stamp.nanosec - time.time()
    assert 0.0 < ahead < 0.3
    count = len(robot.transforms)
    harness.wait(lambda: len(robot.transforms) > count + 5)  # re-sent without new fixes
    harness.wait(
        lambda: any(s.level == DiagnosticStatus.OK for s in statuses(robot, "localization"))
    )
    assert statuses(robot, "map")[-1].values[0].value == harness.node.parameters.map
    # who comes late still gets the last pose
    late = []
    robot.create_subscription(PoseWithCovarianceStamped, "pose", late.append, LATCHED)
    harness.wait(lambda: late)
    assert late[0].header.stamp == robot.poses[-1].header.stamp


def test_without_odometry_the_base_hangs_on_the_map(start_harness):
    slow = "[lost_after=8.0, motion.max_speed=0.1, motion.max_turn_deg=1.0]"
    harness = start_harness(
        odometry="none", tracker=slow, image_transport="compressed", compressed=True
    )
    expected = truth(harness.robot.frames[2].stamp)
    now = time.time()
    harness.robot.frames = [
        replace(frame, stamp=now + 0.1 * i) for i, frame in enumerate(harness.robot.frames)
    ]
    for number in (0, 1, 2):
        harness.step(number, odometry=False)
    harness.wait(lambda: harness.robot.transforms)
    last = harness.robot.transforms[-1]
    assert last.child_frame_id == "base_link"
    metres, _ = pose_of(last).inverse().distance(expected.inverse())
    assert float(metres) < 0.05
    # nobody knows where the robot went since: an old pose is not served as a new one
    time.sleep(max(now + 8.5 - time.time(), 0.0))
    count = len(harness.robot.transforms)
    time.sleep(0.5)
    assert len(harness.robot.transforms) == count


def test_missing_odometry_gives_poses_but_no_second_parent_of_the_base(start_harness):
    """map -> base_link would compete with the odom -> base_link of the robot."""
    # frames come slowly here: a robot that hardly moves
    harness = start_harness(tracker="[motion.max_speed=0.1, motion.max_turn_deg=1.0]")
    for number in (0, 1, 2):
        harness.step(number, odometry=False)
    harness.wait(lambda: len(harness.robot.poses) == 2)
    time.sleep(0.3)
    assert harness.robot.transforms == []
    harness.step(4)
    harness.wait(lambda: harness.robot.transforms)
    assert {t.child_frame_id for t in harness.robot.transforms} == {"odom"}


def test_frames_that_say_nothing_end_in_lost(start_harness):
    harness = start_harness(tracker="[lost_after=0.3]")
    for number in (0, 1):
        harness.step(number)
    harness.wait(lambda: harness.robot.transforms)
    nowhere = harness.robot.picture(9)
    nowhere.header.frame_id = "unknown_optical_frame"
    harness.step(9, image=nowhere)
    assert harness.node.tracker.state.value == "lost"
    time.sleep(0.2)
    count = len(harness.robot.transforms)
    time.sleep(0.3)
    assert len(harness.robot.transforms) == count


def broken_info(robot, k):
    info = robot.camera_info(robot.frames[0].stamp)
    info.k = k
    return info


def test_bad_input_is_a_diagnostics_error_and_passes(start_harness):
    harness = start_harness()
    robot = harness.robot
    harness.step(0)
    empty = robot.picture(1)
    empty.height = empty.width = empty.step = 0
    empty.data = array.array("B")
    odd = robot.picture(1)
    odd.encoding = "32FC7"
    small = robot.camera_info(robot.frames[1].stamp)
    small.width, small.height = 320, 240
    nowhere = robot.picture(1)
    nowhere.header.frame_id = "unknown_optical_frame"
    for options, text in [
        ({"info": broken_info(robot, [0.0] * 9)}, "is uncalibrated"),
        ({"info": broken_info(robot, [float("nan")] * 9)}, "not finite"),
        ({"image": empty}, "0 x 0 pixels"),
        ({"image": odd}, "encoding '32FC7' is not supported"),
        ({"info": small}, "its camera has 320 x 240"),
        ({"image": nowhere}, "no transform connects"),
    ]:
        robot.diagnostics.clear()
        harness.step(1, **options)
        harness.wait(
            lambda text=text: any(
                s.level == DiagnosticStatus.ERROR and text in s.message
                for s in statuses(robot, "localization")
            )
        )
    assert robot.poses == []
    harness.step(2)
    harness.step(3)
    harness.wait(lambda: robot.poses)
    harness.wait(lambda: statuses(robot, "localization")[-1].level == DiagnosticStatus.OK)


def test_an_image_of_nothing_gives_no_pose(start_harness):
    harness = start_harness()
    for number in (0, 1):
        harness.step(number)
    harness.wait(lambda: len(harness.robot.poses) == 1)
    dark = harness.robot.picture(2)
    dark.data = array.array("B", bytes(len(dark.data)))
    harness.step(2, image=dark)
    assert harness.node.tracker.state.value == "coasting"
    time.sleep(0.2)
    assert len(harness.robot.poses) == 1


def test_a_clock_that_goes_back_starts_over(start_harness):
    harness = start_harness()
    for number in (0, 1):
        harness.step(number)
    harness.wait(lambda: harness.robot.transforms)
    harness.node.active.on_jump(None)
    assert harness.node.tracker.state.value == "unlocalized"
    time.sleep(0.2)
    count = len(harness.robot.transforms)
    time.sleep(0.3)
    assert len(harness.robot.transforms) == count


def test_parameters_are_described_and_guarded(start_harness):
    node = start_harness().node
    for name in node._parameters:
        if name in ("use_sim_time", "start_type_description_service"):
            continue
        if not name.startswith("qos_overrides"):
            assert node.describe_parameter(name).description, name
    results = node.set_parameters([Parameter("transform_tolerance", value=0.5)])
    assert results[0].successful
    assert node.parameters.transform_tolerance == 0.5
    for name, value in [("transform_tolerance", -1.0), ("map", "/else.h5"), ("device", "tpu")]:
        result = node.set_parameters([Parameter(name, value=value)])[0]
        assert not result.successful
        assert result.reason
    atomic = node.set_parameters_atomically(
        [Parameter("transform_tolerance", value=0.7), Parameter("odometry_wait", value=99.0)]
    )
    assert not atomic.successful
    assert node.parameters.transform_tolerance == 0.5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"map": "''"}, "parameter map is empty"),
        ({"map": "/nowhere.pixmap.h5"}, "no such file"),
        ({"map": 5}, "parameter map"),
        ({"device": "tpu"}, "not one of auto, cpu, cuda"),
        ({"odom_frame_id": "map"}, "three different names"),
        ({"transform_rate": -3.0}, "transform_rate"),
        ({"localizer": "[referenecs=3]"}, "nearest is 'references'"),
        ({"localizer": "[kernel_scale=0]"}, "setting kernel_scale"),
        ({"weights": "/nowhere.tar"}, "parameter weights"),
        ({"record": "/nowhere/a.pixrun"}, "No such file"),
        ({"record": "drive.bag"}, "ends in .pixrun"),
    ],
)
def test_impossible_parameters_stop_the_start(room, parameters, message):
    settings = {"map": room.map_file} | parameters
    arguments = [a for k, v in settings.items() for a in ("-p", f"{k}:={v}")]
    with rclpy.init(args=["--ros-args", *arguments]), pytest.raises(InputError, match=message):
        start(LocalizationNode())


COMMAND = [sys.executable, "-m", "pixloc_ros", "localization_node", "--ros-args", "-p"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_the_process_ends_with_one_line_for_a_bad_map(room, tmp_path, damage):
    path = tmp_path / "m.pixmap.h5"
    if damage == "truncated":
        path.write_bytes(room.map_file.read_bytes()[:10_000])
    elif damage == "foreign":
        path.write_text("hello")
    done = subprocess.run([*COMMAND, f"map:={path}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert len(lines) == 1
    assert "FATAL" in lines[0]
    assert str(path) in lines[0]


def test_ctrl_c_ends_the_process_cleanly(room):
    process = subprocess.Popen(
        [*COMMAND, f"map:={room.map_file}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # the middleware may have something to say first
    assert any("serving" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in output


def test_arguments_that_ros_cannot_read_are_one_line():
    done = subprocess.run([*COMMAND, "map:="], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr


@pytest.mark.parametrize(
    ("remaps", "wanted"),
    [
        ([], "/image/compressed"),
        (["image:=/cam/image_raw"], "/cam/image_raw/compressed"),
        (["image/compressed:=/jpeg"], "/jpeg"),
        (["image:=/cam/image_raw", "image/compressed:=/jpeg"], "/jpeg"),
    ],
)
def test_a_remap_of_the_base_topic_holds_for_compressed_images(context, remaps, wanted):
    arguments = [part for remap in remaps for part in ("-r", remap)]
    node = rclpy.create_node("cameras", cli_args=["--ros-args", *arguments])
    cameras = Cameras(node, (), True, 0.01, print, print, lambda: True)
    assert wanted in {subscription.topic_name for subscription in cameras.subscriptions}
    policies = {name for name in node._parameters if name.startswith("qos_overrides")}
    assert "qos_overrides./camera_info.subscription.durability" in policies
    cameras.close()
    node.destroy_node()
