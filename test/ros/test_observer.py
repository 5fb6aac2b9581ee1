"""What the frames of a moment show, and where the robot was, without a node."""

from __future__ import annotations

import array
from collections import Counter
from dataclasses import replace

import pytest
import torch
from nav_msgs.msg import Odometry
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from pixloc_ros.geometry import Pose
from pixloc_ros.ros.bridge import TransformStore
from pixloc_ros.ros.cameras import CameraImage
from pixloc_ros.ros.conversions import time_message, transform_stamped
from pixloc_ros.ros.observer import Observer
from pixloc_ros.ros.odometry import OdometryBuffer
from pixloc_ros.ros.parameters import NodeParameters


class Transforms:
    """As the buffer of a node, which takes stamps as messages."""

    def __init__(self):
        self.store, self.asked, self.meanwhile = TransformStore(10.0), Counter(), lambda: None

    def lookup(self, target, source, stamp=None):
        self.asked[target, source] += 1
        if self.asked[target, source] > 1:  # once in vain
            self.meanwhile()
        nanoseconds = None if stamp is None else Time.from_msg(stamp).nanoseconds
        return self.store.lookup(target, source, nanoseconds)


class Said(list):
    def warning(self, text, throttle_duration_sec=None):
        self.append((text, throttle_duration_sec))


def at(x):
    return Pose.exp(torch.tensor([x, 0, 0, 0, 0, 0], dtype=torch.float64))


def x_of(pose):
    return float(pose.translation[0])


class Robot:
    """Two cameras, of which the right one is 0.4 m from the left one."""

    def __init__(self, **parameters):
        self.transforms, self.said = Transforms(), Said()
        self.odometry = OdometryBuffer("odom", "base_link", 20.0)
        self.parameters = replace(NodeParameters(), **parameters)
        self.observer = Observer(self.parameters, self.transforms, self.odometry, self.said)
        self.hear("base_link", "left", 0.0, 0.1, static=True)
        self.hear("base_link", "right", 0.0, 0.5, static=True)

    def hear(self, parent, child, stamp, x, static=False):
        message = transform_stamped(time_message(stamp), parent, child, at(x))
        self.transforms.store.add(TFMessage(transforms=[message]), static=static)

    def drive(self, *stamps):
        """On two topics at once: TF is a metre further."""
        for stamp in stamps:
            self.hear("odom", "base_link", stamp, 10.0 * stamp + 1.0)
            message = Odometry(child_frame_id="base_link")
            message.header.stamp = time_message(stamp)
            message.pose.pose.position.x = 10.0 * stamp
            self.odometry.add(message)


def picture(frame="left", stamp=1.0, width=8, model="plumb_bob"):
    image = Image(height=6, width=8, encoding="rgb8", step=24, data=array.array("B", bytes(144)))
    image.header.frame_id, image.header.stamp = frame, time_message(stamp)
    info = CameraInfo(width=width, height=6, distortion_model=model, header=image.header)
    info.k = [8.0, 0.0, 4.0, 0.0, 8.0, 3.0, 0.0, 0.0, 1.0]
    info.p = [9.0, 0.0, 4.0, 0.0, 0.0, 9.0, 3.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    return CameraImage(image, info)


@pytest.mark.parametrize(("odometry", "x"), [("topic", 10.0), ("tf", 11.0), ("none", None)])
def test_odometry_comes_from_where_the_parameter_says(odometry, x):
    robot = Robot(odometry=odometry)
    robot.drive(0.9, 1.1)
    views, frame, reason = robot.observer.observe((picture(),), 0.0)
    assert (len(views), frame.stamp, reason) == (1, 1.0, "")
    assert x_of(frame.base_from_cam) == pytest.approx(0.1)
    known = frame.odom_from_base
    assert known is None if x is None else x_of(known) == pytest.approx(x)


@pytest.mark.parametrize(("odometry", "more"), [("topic", 0.0), ("tf", 1.0)])
def test_odometry_of_now_and_of_the_past_is_not_waited_for(odometry, more):
    robot = Robot(odometry=odometry)
    robot.drive(0.5, 1.0, 1.5)
    observer = robot.observer
    assert x_of(observer.odometry_at(1.25)) == pytest.approx(12.5 + more)
    assert x_of(observer.newest_odometry()) == pytest.approx(15.0 + more)
    assert observer.odometry_at(2.0) is None
    assert x_of(observer.past_odometry(1.25)) == pytest.approx(12.5 + more)
    assert x_of(observer.past_odometry(2.0)) == pytest.approx(15.0 + more)
    assert robot.said == []


def test_odometry_by_transforms_is_waited_for_and_missed_aloud():
    robot = Robot(odometry="tf")
    robot.drive(0.5)
    robot.transforms.meanwhile = lambda: robot.drive(1.5)
    assert x_of(robot.observer.observe((picture(),), 5.0)[1].odom_from_base) == pytest.approx(11.0)
    assert robot.said == []
    robot.transforms.meanwhile = lambda: None
    late = robot.observer.observe((picture(stamp=9.0),), 0.03)[1]
    assert late.odom_from_base is None
    ((text, throttle),) = robot.said
    assert text.startswith("no odometry: ")
    assert throttle == 5.0


def test_views_of_a_rig_hang_on_the_first_that_is_of_use():
    robot = Robot()
    views, frame, _ = robot.observer.observe((picture("left"), picture("right")), 0.0)
    assert x_of(frame.base_from_cam) == pytest.approx(0.1)
    assert [x_of(view.cam_from_rig) for view in views] == pytest.approx([0.0, -0.4])
    assert [view.image.shape for view in views] == [(6, 8, 3)] * 2
    views, frame, reason = robot.observer.observe((picture("mast"), picture("right")), 0.0)
    assert x_of(frame.base_from_cam) == pytest.approx(0.5)
    assert (len(views), "mast" in reason) == (1, True)
    views, frame, reason = robot.observer.observe((picture(width=16), picture("mast")), 0.0)
    assert (views, frame, "mast" in reason) == ([], None, True)


@pytest.mark.parametrize(("rectified", "focal"), [(False, 8.0), (True, 9.0)])
def test_rectified_images_have_the_focal_length_of_p(rectified, focal):
    views, _, _ = Robot(rectified=rectified).observer.observe((picture(),), 0.0)
    assert views[0].camera.focal.tolist() == [focal, focal]


def test_what_is_guessed_of_a_lens_is_said_once():
    robot = Robot()
    for _ in range(2):
        robot.observer.observe((picture(model="equidistant"),), 0.0)
    assert ["equidistant" in text for text, _ in robot.said] == [True]
    robot = Robot(rectified=True)
    robot.observer.observe((picture(model="equidistant"),), 0.0)
    assert robot.said == []


def test_a_moving_mount_is_waited_for_and_an_unknown_one_is_not():
    robot = Robot()
    robot.hear("base_link", "/mast", 0.5, 0.0)
    robot.transforms.meanwhile = lambda: robot.hear("base_link", "mast", 1.5, 1.0)
    frame = robot.observer.observe((picture("/mast"),), 5.0)[1]
    assert x_of(frame.base_from_cam) == pytest.approx(0.5)
    robot.transforms.meanwhile = lambda: None
    _, frame, reason = robot.observer.observe((picture("mast", stamp=9.0),), 0.03)
    assert frame is None
    assert reason.startswith("mast is known on base_link at other times, not at the image's stamp")
    robot.transforms.asked.clear()
    _, frame, reason = robot.observer.observe((picture("nowhere"),), 60.0)
    assert "no transform connects base_link and nowhere" in reason
    assert robot.transforms.asked.total() == 2
