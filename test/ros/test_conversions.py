from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose as PoseMessage
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from pixloc_ros.geometry import CameraError, Pose
from pixloc_ros.ros.conversions import (
    pose_from_message,
    pose_with_covariance,
    seconds,
    time_message,
)
from pixloc_ros.sensors import camera_of

K = [500.0, 0.0, 321.0, 0.0, 510.0, 243.0, 0.0, 0.0, 1.0]


def info(model="plumb_bob", d=(), **fields):
    defaults = {
        "width": 640,
        "height": 480,
        "distortion_model": model,
        "d": list(d),
        "k": K,
        "p": [450.0, 0, 322.0, 0, 0, 455.0, 241.0, 0, 0, 0, 1.0, 0],
    }
    return CameraInfo(**(defaults | fields))


DISTORTIONS = [
    ("plumb_bob", ()),
    ("plumb_bob", (0.0, 0.0, 0.0, 0.0, 0.0)),
    ("plumb_bob", (-0.1, 0.02, 1e-3, -1e-3)),
    ("plumb_bob", (-0.1, 0.02, 1e-3, -1e-3, 0.01)),
    ("rational_polynomial", (0.1, -0.02, 1e-3, -1e-3, 0.01, 0.2, 0.01, 0.0)),
]


@pytest.mark.parametrize(("model", "d"), DISTORTIONS)
def test_projects_as_opencv_does(model, d):
    """OpenCV, like ROS, counts pixels from the centre of the first one."""
    points = torch.rand(30, 3, dtype=torch.float64) + torch.tensor([-0.5, -0.5, 1.5])
    matrix = np.array(K).reshape(3, 3)
    coefficients = np.array(d) if d else np.zeros(5)
    expected, _ = cv2.projectPoints(points.numpy(), np.zeros(3), np.zeros(3), matrix, coefficients)
    pixels, valid = camera_of(info(model, d)).project(points)
    assert valid.any()
    assert np.allclose(pixels.numpy() - 0.5, expected[:, 0], atol=1e-9)


def test_fisheye_as_opencv_does():
    d = (0.02, -0.01, 3e-3, -1e-3)
    points = torch.rand(30, 3, dtype=torch.float64) + torch.tensor([-0.5, -0.5, 1.0])
    expected, _ = cv2.fisheye.projectPoints(
        points.numpy()[:, None], np.zeros(3), np.zeros(3), np.array(K).reshape(3, 3), np.array(d)
    )
    pixels, _ = camera_of(info("equidistant", d)).project(points)
    assert np.allclose(pixels.numpy() - 0.5, expected[:, 0], atol=1e-9)


def test_rectified_images_use_p():
    camera = camera_of(info("plumb_bob", (-0.3, 0.1, 0, 0, 0)), rectified=True)
    assert camera.focal.tolist() == [450.0, 455.0]
    assert (camera.distortion == 0).all()


def test_roi_and_binning_describe_the_published_image():
    roi = RegionOfInterest(x_offset=100, y_offset=60, width=320, height=240)
    camera = camera_of(info(roi=roi, binning_x=2, binning_y=2))
    assert camera.size.tolist() == [160.0, 120.0]
    whole = camera_of(info())
    point = torch.tensor([[-0.1, -0.2, 2.0]]).double()
    full, _ = whole.project(point)
    cut, _ = camera.project(point)
    assert torch.allclose(cut, (full - torch.tensor([100.0, 60.0]).double()) / 2)
    odd = camera_of(info(width=641, binning_x=2, binning_y=2))
    assert odd.size.tolist() == [320.0, 240.0]


@pytest.mark.parametrize(
    ("message", "rectified", "text"),
    [
        (info(k=[0.0] * 9), False, "is uncalibrated"),
        (info(k=[float("nan")] * 9), False, "not finite"),
        (info(d=[float("inf")] * 5), False, "not finite"),
        (info(p=[0.0] * 12), True, "no rectified calibration"),
        (info(k=[500.0, 3.0, *K[2:]]), False, "skew"),
        (info(width=0), False, "width 0"),
        (info("equidistant", (0.1,) * 5), False, "'equidistant' with 5"),
        (info("kannala", (0.1,) * 4), False, "'kannala'"),
        (info("rational_polynomial", (0.1,) * 11), False, "11 coefficients"),
    ],
)
def test_unusable_calibrations(message, rectified, text):
    with pytest.raises(CameraError, match=text):
        camera_of(message, rectified)


def test_pose_messages():
    pose = Pose.exp(torch.tensor([1.0, 2, 3, 0.3, -0.4, 2.0], dtype=torch.float64))
    covariance = torch.arange(36, dtype=torch.float64).reshape(6, 6)
    message = pose_with_covariance(Time(sec=3), "map", pose, covariance)
    assert message.header.frame_id == "map"
    assert message.pose.covariance.tolist() == list(range(36))
    back = pose_from_message(message.pose.pose)
    assert torch.allclose(back.matrix(), pose.matrix(), atol=1e-12)
    message.pose.pose.position.x = float("nan")
    with pytest.raises(CameraError, match="not finite"):
        pose_from_message(message.pose.pose)
    zero = PoseMessage()
    zero.orientation.w = 0.0
    with pytest.raises(CameraError, match="zero"):
        pose_from_message(zero)


def test_time_round_trip():
    for stamp in (0.0, 1.25, 1795400177.123456):
        assert seconds(time_message(stamp)) == pytest.approx(stamp, abs=1e-6)
