"""The node on real DDS, driven by a robot that publishes what the rendered room shows it."""

from __future__ import annotations

import array
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from pixloc_ros.datasets.rendered_room import base_pose, mount
from pixloc_ros.errors import InputError
from pixloc_ros.features import read_image
from pixloc_ros.ros.bridge import pose_of
from pixloc_ros.ros.conversions import pose_from_message, time_message, transform_stamped
from pixloc_ros.ros.node import LocalizationNode

LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class Robot(Node):
    """Publishes frames of the rendered drive and collects what comes back."""

    def __init__(self, room, compressed=False):
        super().__init__("robot")
        self.frames, self.images = room.sequence.frames, room.sequence.images
        self.poses, self.transforms, self.diagnostics, self.clouds = [], [], [], []
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self.compressed = compressed
        self.image = self.create_publisher(kind, topic, 5)
        self.info = self.create_publisher(CameraInfo, "camera_info", 5)
        self.odometry = self.create_publisher(Odometry, "odom", 20)
        static = self.create_publisher(TFMessage, "/tf_static", LATCHED)
        transform = transform_stamped(time_message(0.0), "base_link", "optical", mount())
        static.publish(TFMessage(transforms=[transform]))
        self.create_subscription(PoseWithCovarianceStamped, "pose", self.poses.append, LATCHED)
        self.create_subscription(TFMessage, "/tf", self.on_transform, 50)
        self.create_subscription(
            DiagnosticArray, "/diagnostics", lambda m: self.diagnostics.extend(m.status), 10
        )
        self.create_subscription(PointCloud2, "pixloc/map_points", self.clouds.append, LATCHED)

    def on_transform(self, message):
        self.transforms += [t for t in message.transforms if t.header.frame_id == "map"]

    def camera_info(self, stamp):
        message = CameraInfo(width=640, height=480, distortion_model="plumb_bob")
        message.header.frame_id, message.header.stamp = "optical", time_message(stamp)
        message.k = [520.0, 0.0, 319.5, 0.0, 520.0, 239.5, 0.0, 0.0, 1.0]
        return message

    def picture(self, number):
        frame = self.frames[number]
        rgb = read_image(self.images / frame.name)
        if self.compressed:
            data = cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes()
            message = CompressedImage(format="jpeg", data=array.array("B", data))
        else:
            message = Image(height=480, width=640, encoding="rgb8", step=1920)
            message.data = array.array("B", rgb.tobytes())
        message.header.frame_id = "optical"
        message.header.stamp = time_message(frame.stamp)
        return message

    def drive(self, number, odometry=True, image=None, info=None):
        """Publish one frame with what belongs to it."""
        stamp = self.frames[number].stamp
        if odometry:
            for at in (stamp - 0.05, stamp + 0.05):
                message = Odometry(child_frame_id="base_link")
                message.header.frame_id, message.header.stamp = "odom", time_message(at)
                # odometry that starts where the drive does
                pose = base_pose(0.0, 1.0).inverse() @ base_pose(at - 100.0, 1.0)
                transform = transform_stamped(
                    time_message(at), "odom", "base_link", pose
                ).transform
                position, rotation = message.pose.pose.position, transform.translation
                position.x, position.y, position.z = rotation.x, rotation.y, rotation.z
                message.pose.pose.orientation = transform.rotation
                self.odometry.publish(message)
        self.info.publish(info if info is not None else self.camera_info(stamp))
        time.sleep(0.05)
        self.image.publish(image if image is not None else self.picture(number))


class Story:
    """A node and a robot, each spinning in a thread of its own."""

    def __init__(self, room, compressed=False, **parameters):
        settings = {"map": str(room.map_file)} | parameters
        arguments = ["--ros-args"]
        for name, value in settings.items():
            arguments += ["-p", f"{name}:={value}"]
        rclpy.init(args=arguments)
        self.node = LocalizationNode()
        self.robot = Robot(room, compressed)
        self.threads, self.executors = [], []
        for node in (self.node, self.robot):
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            thread = threading.Thread(target=executor.spin, daemon=True)
            thread.start()
            self.executors.append(executor)
            self.threads.append(thread)
        publishers = (self.robot.image, self.robot.info)
        self.wait(lambda: all(p.get_subscription_count() for p in publishers))
        self.wait(lambda: len(self.robot.clouds) == 1)

    def wait(self, condition, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "timed out"
            time.sleep(0.01)

    def step(self, number, **options):
        """Publish a frame and wait until the node has judged it."""
        journal = self.node.journal
        before = journal.fixes + journal.refusals + journal.errors
        self.robot.drive(number, **options)
        self.wait(lambda: journal.fixes + journal.refusals + journal.errors > before)

    def end(self):
        for executor, thread in zip(self.executors, self.threads, strict=True):
            executor.shutdown()
            thread.join()
        self.node.close()
        self.node.destroy_node()
        self.robot.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def story(room):
    stories = []

    def begin(**options):
        stories.append(Story(room, **options))
        return stories[-1]

    yield begin
    for told in stories:
        told.end()


def truth(stamp):
    return base_pose(stamp - 100.0, 1.0)


def statuses(robot, task):
    return [s for s in robot.diagnostics if s.name.endswith(task)]


def test_the_robot_is_told_where_it_is(story):
    told = story()
    robot = told.robot
    told.step(0)
    time.sleep(0.3)
    assert robot.poses == []  # one estimate is no fix
    assert robot.transforms == []
    for number in (2, 4, 6):
        told.step(number)
    told.wait(lambda: len(robot.poses) == 3 and robot.transforms)
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
    told.wait(lambda: len(robot.transforms) > count + 5)  # re-sent without new fixes
    told.wait(lambda: any(s.level == DiagnosticStatus.OK for s in statuses(robot, "localization")))
    assert statuses(robot, "map")[-1].values[0].value == told.node.parameters.map
    # who comes late still gets the last pose
    late = []
    robot.create_subscription(PoseWithCovarianceStamped, "pose", late.append, LATCHED)
    told.wait(lambda: late)
    assert late[0].header.stamp == robot.poses[-1].header.stamp


def test_without_odometry_the_base_hangs_on_the_map(story):
    options = {"odometry": "none", "tracker": "[lost_after=8.0]"}
    told = story(**options, image_transport="compressed", compressed=True)
    expected = truth(told.robot.frames[2].stamp)
    now = time.time()
    told.robot.frames = [
        replace(frame, stamp=now + 0.1 * i) for i, frame in enumerate(told.robot.frames)
    ]
    for number in (0, 1, 2):
        told.step(number, odometry=False)
    told.wait(lambda: told.robot.transforms)
    last = told.robot.transforms[-1]
    assert last.child_frame_id == "base_link"
    metres, _ = pose_of(last).inverse().distance(expected.inverse())
    assert float(metres) < 0.05
    # nobody knows where the robot went since: an old pose is not served as a new one
    time.sleep(max(now + 8.5 - time.time(), 0.0))
    count = len(told.robot.transforms)
    time.sleep(0.5)
    assert len(told.robot.transforms) == count


def test_missing_odometry_gives_poses_but_no_second_parent_of_the_base(story):
    """map -> base_link would compete with the odom -> base_link of the robot."""
    told = story()
    for number in (0, 1, 2):
        told.step(number, odometry=False)
    told.wait(lambda: len(told.robot.poses) == 2)
    time.sleep(0.3)
    assert told.robot.transforms == []
    told.step(4)
    told.wait(lambda: told.robot.transforms)
    assert {t.child_frame_id for t in told.robot.transforms} == {"odom"}


def test_frames_that_say_nothing_end_in_lost(story):
    told = story(tracker="[lost_after=0.3]")
    for number in (0, 1):
        told.step(number)
    told.wait(lambda: told.robot.transforms)
    nowhere = told.robot.picture(9)
    nowhere.header.frame_id = "unknown_optical_frame"
    told.step(9, image=nowhere)
    assert told.node.tracker.state.value == "lost"
    time.sleep(0.2)
    count = len(told.robot.transforms)
    time.sleep(0.3)
    assert len(told.robot.transforms) == count


def broken_info(robot, k):
    info = robot.camera_info(robot.frames[0].stamp)
    info.k = k
    return info


def test_bad_input_is_a_diagnostics_error_and_passes(story):
    told = story()
    robot = told.robot
    told.step(0)
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
        ({"info": broken_info(robot, [0.0] * 9)}, "not calibrated"),
        ({"info": broken_info(robot, [float("nan")] * 9)}, "not finite"),
        ({"image": empty}, "0 x 0 pixels"),
        ({"image": odd}, "unknown image encoding"),
        ({"info": small}, "its camera has 320x240"),
        ({"image": nowhere}, "no transform connects"),
    ]:
        robot.diagnostics.clear()
        told.step(1, **options)
        told.wait(
            lambda text=text: any(
                s.level == DiagnosticStatus.ERROR and text in s.message
                for s in statuses(robot, "localization")
            )
        )
    assert robot.poses == []
    told.step(2)
    told.step(3)
    told.wait(lambda: robot.poses)
    told.wait(lambda: statuses(robot, "localization")[-1].level == DiagnosticStatus.OK)


def test_an_image_of_nothing_gives_no_pose(story):
    told = story()
    for number in (0, 1):
        told.step(number)
    told.wait(lambda: len(told.robot.poses) == 1)
    dark = told.robot.picture(2)
    dark.data = array.array("B", bytes(len(dark.data)))
    told.step(2, image=dark)
    assert told.node.tracker.state.value == "coasting"
    time.sleep(0.2)
    assert len(told.robot.poses) == 1


def test_a_clock_that_goes_back_starts_over(story):
    told = story()
    for number in (0, 1):
        told.step(number)
    told.wait(lambda: told.robot.transforms)
    told.node._on_jump(None)
    assert told.node.tracker.state.value == "unlocalized"
    time.sleep(0.2)
    count = len(told.robot.transforms)
    time.sleep(0.3)
    assert len(told.robot.transforms) == count


def test_parameters_are_described_and_guarded(story):
    node = story().node
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
    ],
)
def test_impossible_parameters_stop_the_start(room, parameters, message):
    settings = {"map": room.map_file} | parameters
    arguments = [a for k, v in settings.items() for a in ("-p", f"{k}:={v}")]
    with rclpy.init(args=["--ros-args", *arguments]), pytest.raises(InputError, match=message):
        LocalizationNode()


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
