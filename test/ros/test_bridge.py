from __future__ import annotations

import array
import math

import cv2
import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from pixloc_ros.features import ImageError
from pixloc_ros.geometry import Pose
from pixloc_ros.ros.bridge import (
    TransformError,
    TransformStore,
    image_to_rgb,
    point_cloud,
    pose_of,
    quaternion_xyzw,
)
from pixloc_ros.ros.bridge import images as bridge_images
from pixloc_ros.ros.bridge.distribution import profile_variable
from pixloc_ros.ros.conversions import time_message, transform_stamped

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 255, (12, 10, 3), np.uint8)


def message(encoding, pixels, padding=0, big_endian=False):
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        step=rows.shape[1],
        is_bigendian=big_endian,
        data=array.array("B", rows.tobytes()),
    )


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [
        ("rgb8", RGB, RGB),
        ("bgr8", RGB[..., ::-1], RGB),
        ("8UC3", RGB[..., ::-1], RGB),
        ("rgba8", np.dstack([RGB, RGB[..., 0]]), RGB),
        ("bgra8", np.dstack([RGB[..., ::-1], RGB[..., 0]]), RGB),
        ("mono8", RGB[..., 0], RGB[..., :1].repeat(3, 2)),
        ("8UC1", RGB[..., 0], RGB[..., :1].repeat(3, 2)),
        ("mono16", RGB[..., 0].astype("<u2") * 257 + 9, RGB[..., :1].repeat(3, 2)),
        ("16UC1", RGB[..., 0].astype("<u2") * 257, RGB[..., :1].repeat(3, 2)),
        ("rgb16", RGB.astype("<u2") * 257 + 3, RGB),
        ("bgr16", RGB[..., ::-1].astype("<u2") * 257, RGB),
    ],
)
def test_encodings(encoding, pixels, expected, padding):
    assert np.array_equal(image_to_rgb(message(encoding, pixels, padding)), expected)


def test_big_endian_pixels():
    pixels = RGB[..., 0].astype(">u2") * np.uint16(257)
    decoded = image_to_rgb(message("mono16", pixels.astype(">u2"), big_endian=True))
    assert np.array_equal(decoded[..., 0], RGB[..., 0])


@pytest.mark.parametrize(
    ("encoding", "first"),
    [("bayer_rggb8", "rg"), ("bayer_bggr8", "bg"), ("bayer_gbrg8", "gb"), ("bayer_grbg8", "gr")],
)
def test_bayer_mosaics_name_their_first_row(encoding, first):
    """A flat colour survives: red, green and blue come out where they went in."""
    colour = {"r": 200, "g": 120, "b": 40}
    second = {"rg": "gb", "bg": "gr", "gb": "rg", "gr": "bg"}[first]
    mosaic = np.zeros((12, 10), np.uint8)
    for row, names in enumerate((first, second)):
        for column, name in enumerate(names):
            mosaic[row::2, column::2] = colour[name]
    decoded = image_to_rgb(message(encoding, mosaic))[4:8, 4:6]
    assert np.abs(decoded.astype(int) - [200, 120, 40]).max() <= 1


def test_yuv():
    uyvy = np.empty((12, 10, 2), np.uint8)
    uyvy[..., 0], uyvy[..., 1] = 128, 90  # gray: both chroma at their middle
    gray = image_to_rgb(message("yuv422", uyvy))
    yuyv = image_to_rgb(message("yuv422_yuy2", uyvy[..., ::-1]))
    assert np.array_equal(gray, yuyv)
    assert np.ptp(gray) == 0


def test_compressed_images():
    ok, data = cv2.imencode(".png", RGB[..., ::-1])
    assert ok
    compressed = CompressedImage(format="png", data=array.array("B", data.tobytes()))
    assert np.array_equal(image_to_rgb(compressed), RGB)
    half = CompressedImage(format="jpeg", data=array.array("B", b"\xff\xd8\xff\xe0 cut"))
    for bad in (half, CompressedImage(format="jpeg")):
        with pytest.raises(ImageError, match="compressed image"):
            image_to_rgb(bad)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoding": "32FC7"}, "encoding '32FC7' is not supported"),
        ({"width": 0}, "0 x 12 pixels"),
        ({"height": 0}, "10 x 0 pixels"),
        ({"step": 0}, "rows of 0 bytes"),
        ({"step": 29}, "rows of 29 bytes"),
        ({"encoding": "yuv422", "width": 9}, "odd size 9"),
        ({"height": 13}, "need"),
        ({"data": array.array("B")}, "0 bytes"),
    ],
)
def test_broken_images(change, text):
    broken = message("rgb8", RGB)
    for name, value in change.items():
        setattr(broken, name, value)
    with pytest.raises(ImageError, match=text):
        image_to_rgb(broken)


def test_quaternion_and_transform_round_trip():
    pose = Pose.exp(torch.tensor([1.0, 2, 3, 0.3, -0.4, 2.0], dtype=torch.float64))
    x, y, z, w = quaternion_xyzw(pose.rotation.numpy())
    assert math.isclose(x * x + y * y + z * z + w * w, 1.0)
    back = pose_of(transform_stamped(Time(), "a", "b", pose))
    assert torch.allclose(back.matrix(), pose.matrix(), atol=1e-12)


def test_point_cloud_layout():
    points = RNG.normal(size=(7, 3))
    cloud = point_cloud(Header(frame_id="map"), points)
    assert (cloud.width, cloud.height, cloud.point_step) == (7, 1, 12)
    values = np.frombuffer(bytes(cloud.data), np.float32).reshape(7, 3)
    assert np.allclose(values, points, atol=1e-6)
    assert [f.name for f in cloud.fields] == ["x", "y", "z"]


def stamped(parent, child, x, stamp=0.0, yaw=0.0):
    pose = Pose.from_rotvec(
        torch.tensor([0, 0, yaw], dtype=torch.float64),
        torch.tensor([x, 0, 0], dtype=torch.float64),
    )
    return transform_stamped(time_message(stamp), parent, child, pose)


def store(*transforms, static=()):
    buffer = TransformStore(10.0)
    buffer.add(TFMessage(transforms=list(transforms)))
    buffer.add(TFMessage(transforms=list(static)), static=True)
    return buffer


def test_transforms_chain_both_ways():
    buffer = store(
        stamped("odom", "base", 1.0, 1.0, math.pi / 2),
        static=[stamped("base", "mast", 0.5), stamped("mast", "camera", 0.25)],
    )
    pose = buffer.lookup("odom", "camera", None)
    assert torch.allclose(pose.translation, torch.tensor([1.0, 0.75, 0.0]).double())
    inverse = buffer.lookup("camera", "odom", None)
    assert torch.allclose((pose @ inverse).matrix(), torch.eye(4).double(), atol=1e-12)
    assert torch.equal(buffer.lookup("base", "base", None).translation, torch.zeros(3).double())


def test_transforms_are_interpolated_at_the_stamp():
    buffer = store(*(stamped("odom", "base", float(i), float(i), 0.2 * i) for i in range(5)))
    pose = buffer.lookup("odom", "base", 2_500_000_000)
    assert float(pose.translation[0]) == pytest.approx(2.5)
    assert torch.allclose(pose.log()[5], torch.tensor(0.5).double())
    assert float(buffer.lookup("odom", "base", None).translation[0]) == 4.0


def test_what_is_not_known_is_said():
    buffer = store(stamped("odom", "base", 0.0, 1.0), stamped("odom", "base", 1.0, 2.0))
    for stamp, text in [(500_000_000, "before"), (2_500_000_000, "after")]:
        with pytest.raises(TransformError, match=text):
            buffer.lookup("odom", "base", stamp)
    with pytest.raises(TransformError, match="no transform connects odom and camera"):
        buffer.lookup("odom", "camera", None)
    buffer.clear()
    with pytest.raises(TransformError, match="no transform"):
        buffer.lookup("odom", "base", None)


def test_impossible_transforms_are_passed_over():
    late = stamped("odom", "base", 7.0, 2.0)
    negative, nan, zero = (stamped("odom", "base", 9.0, 3.0) for _ in range(3))
    negative.header.stamp.sec = -5
    nan.transform.translation.x = float("nan")
    zero.transform.rotation.w = zero.transform.rotation.z = 0.0
    buffer = store(late, negative, nan, zero)
    assert float(buffer.lookup("odom", "base", None).translation[0]) == 7.0


def test_old_transforms_are_forgotten_and_loops_end():
    buffer = store(*(stamped("odom", "base", float(i), float(i)) for i in range(60)))
    with pytest.raises(TransformError, match="before"):
        buffer.lookup("odom", "base", 10_000_000_000)
    looped = store(stamped("a", "b", 1.0), stamped("b", "a", 1.0))
    with pytest.raises(TransformError, match="no transform"):
        looped.lookup("a", "c", None)


def test_message_type_is_that_of_the_distribution():
    """Type name and hash are what others on the wire compare."""
    assert TFMessage.get_fields_and_field_types() == {
        "transforms": "sequence<geometry_msgs/TransformStamped>"
    }
    assert TFMessage.__module__.startswith("tf2_msgs.msg")
    assert isinstance(TFMessage(transforms=[TransformStamped()]).transforms[0], TransformStamped)


class Bridge:
    """A cv_bridge that refuses everything, or gives one gray for everything."""

    def __init__(self, refuses):
        self.refuses = refuses

    def CvBridge(self):
        return self

    def imgmsg_to_cv2(self, message, encoding):
        if self.refuses:
            raise TypeError("buffer is too small for requested array")
        return np.full((message.height, message.width, 3), 7, np.uint8)


def test_what_cv_bridge_refuses_or_shears_is_read_here(monkeypatch):
    monkeypatch.setattr(bridge_images, "cv_bridge", Bridge(refuses=True))
    assert np.array_equal(image_to_rgb(message("rgb8", RGB)), RGB)
    short = message("rgb8", RGB)
    short.data = array.array("B", bytes(30))
    with pytest.raises(ImageError, match="image of 30 bytes"):
        image_to_rgb(short)
    monkeypatch.setattr(bridge_images, "cv_bridge", Bridge(refuses=False))
    assert (image_to_rgb(message("rgb8", RGB)) == 7).all()
    # rows that are padded, and encodings of which distributions differ
    assert np.array_equal(image_to_rgb(message("rgb8", RGB, padding=2)), RGB)
    assert np.array_equal(image_to_rgb(message("8UC3", RGB[..., ::-1])), RGB)


@pytest.mark.parametrize(
    ("distribution", "name"),
    [("humble", "FASTRTPS"), ("jazzy", "FASTRTPS"), ("kilted", "FASTDDS")],
)
def test_the_profile_has_the_name_that_a_distribution_reads(monkeypatch, distribution, name):
    monkeypatch.setenv("ROS_DISTRO", distribution)
    assert profile_variable() == f"{name}_DEFAULT_PROFILES_FILE"
