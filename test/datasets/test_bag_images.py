"""Images out of bags."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from pixloc_ros.datasets.bag import write_bag
from pixloc_ros.datasets.bag_images import BagImages
from pixloc_ros.datasets.rendered_room import mount
from pixloc_ros.errors import InputError
from pixloc_ros.features import read_image

STORE = get_typestore(Stores.ROS2_KILTED)


@pytest.fixture(scope="module")
def bag(room, tmp_path_factory):
    path = tmp_path_factory.mktemp("bag") / "drive"
    write_bag(room.sequence, path, mount())
    return path


def image(encoding, step, data, height=2, width=3):
    types = STORE.types
    time = types["builtin_interfaces/msg/Time"](sec=1, nanosec=500_000_000)
    header = types["std_msgs/msg/Header"](stamp=time, frame_id="camera")
    return types["sensor_msgs/msg/Image"](
        header, height, width, encoding, 0, step, np.frombuffer(bytes(data), np.uint8)
    )


def written(path, topics, plugin=StoragePlugin.SQLITE3):
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        for topic, message in topics:
            kind = message.__msgtype__
            connection = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connection, 10**9, STORE.serialize_cdr(message, kind))
    return path


def test_images_and_camera_of_a_drive(room, bag):
    frames = room.sequence.frames
    with BagImages(bag) as images:
        assert images.topic == "/image"
        assert len(images) == len(frames)
        read = list(images)
        camera = images.camera()
    assert [stamp for stamp, _ in read] == pytest.approx([f.stamp for f in frames], abs=1e-6)
    assert np.array_equal(read[3][1], read_image(room.sequence.images / frames[3].name))
    assert torch.allclose(camera.numbers(), frames[0].camera.numbers(), atol=1e-9)


def test_encodings_in_sqlite(tmp_path):
    bgr = image("bgr8", 9, range(18))
    path = written(tmp_path / "a", [("/camera", bgr)])
    with BagImages(path) as images:
        ((stamp, read),) = images
    assert stamp == 1.5
    assert read[0, 0].tolist() == [2, 1, 0]
    gray = written(tmp_path / "b", [("/camera", image("mono8", 3, range(6)))])
    with BagImages(gray) as images:
        ((_, read),) = images
    assert read.shape == (2, 3, 3)
    assert read[1, 2].tolist() == [5, 5, 5]
    strange = written(tmp_path / "c", [("/camera", image("plasma64", 9, range(18)))])
    with BagImages(strange) as images:
        assert list(images) == []
        assert "/camera at 1.000 s: image encoding 'plasma64'" in images.left_out.most


def test_which_topic(tmp_path):
    two = [
        ("/left/image", image("rgb8", 9, range(18))),
        ("/right/image", image("mono8", 3, [0] * 6)),
    ]
    path = written(tmp_path / "a", two)
    with pytest.raises(InputError, match="/left/image, /right/image: choose one with --topic"):
        BagImages(path)
    with BagImages(path, "/right/image") as images:
        assert len(images) == 1
        with pytest.raises(InputError, match="no camera_info beside /right/image"):
            images.camera()
    with pytest.raises(InputError, match=r"no images on /up; topics of images: /left/image"):
        BagImages(path, "/up")


def test_what_is_no_bag(tmp_path):
    with pytest.raises(InputError, match="no such recording"):
        BagImages(tmp_path / "none")
    (tmp_path / "a.mcap").write_bytes(b"not a bag at all")
    with pytest.raises(InputError, match="not a readable recording"):
        BagImages(tmp_path / "a.mcap")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="no recording in it"):
        BagImages(tmp_path / "folder")
