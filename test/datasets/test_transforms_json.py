"""Posed images as nerfstudio and instant-ngp list them."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest

from pixloc_ros.datasets import ListError
from pixloc_ros.datasets.transforms_json import read_transforms

LOOKING = [[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.jpg"):
        cv2.imwrite(str(folder / name), np.zeros((60, 80, 3), np.uint8))
    return folder


def read(images, frames, **more):
    path = images.parent / "transforms.json"
    path.write_text(json.dumps({"fl_x": 70.0, "frames": frames, **more}))
    return read_transforms(path, images)


def frame(name, matrix=LOOKING, **more):
    return {"file_path": name, "transform_matrix": matrix, **more}


def test_poses_look_along_minus_z(images):
    camera, poses = read(images, [frame("images/a"), frame("./images/b.jpg")])
    assert list(poses) == ["a.png", "b.jpg"]
    pose = poses["a.png"]
    assert pose.inverse().translation.tolist() == [5, 6, 7]
    # what lies at -z of the OpenGL camera is before ours, what is up is at negative y
    before, up = pose.transform(
        pose.inverse().translation + pose.translation.new_tensor([[0, 0, -2], [0, 1, 0]])
    ).tolist()
    assert before == pytest.approx([0, 0, 2])
    assert up == pytest.approx([0, -1, 0])
    assert camera.size.tolist() == [80, 60]
    assert camera.focal.tolist() == [70, 70]
    assert camera.centre.tolist() == [40, 30]


def test_intrinsics(images):
    angle = {"camera_angle_x": math.pi / 2, "k1": 0.1, "cx": 41.0}
    path = images.parent / "transforms.json"
    path.write_text(json.dumps({**angle, "frames": [frame("images/a")]}))
    camera, _ = read_transforms(path, images)
    assert camera.focal.tolist() == pytest.approx([40, 40])
    assert camera.centre.tolist() == [41, 30]
    assert camera.distortion[0] == 0.1
    fisheye, _ = read(images, [frame("images/a")], camera_model="OPENCV_FISHEYE", k3=0.01)
    assert fisheye.fisheye


def test_mistakes(images):
    scaled = (2 * np.eye(4)).tolist()
    for frames, more, message in (
        ([], {}, "no transforms"),
        ([frame("images/none")], {}, "no image 'images/none'"),
        ([frame("../../etc/passwd")], {}, "no image"),
        ([frame("images/a", fl_x=3)], {}, "fl_x of its own"),
        ([frame("images/a", [[1, 2]])], {}, "not 4 x 4"),
        ([frame("images/a", scaled)], {}, "no rotation"),
        ([frame("images/a"), frame("images/a.png")], {}, "listed twice"),
        ([frame("images/a")], {"fl_x": "x"}, "no usable intrinsics"),
        ([frame("images/a")], {"camera_model": "EQUIRECTANGULAR"}, "is not read"),
    ):
        with pytest.raises(ListError, match=message):
            read(images, frames, **more)
    path = images.parent / "transforms.json"
    path.write_text("{")
    with pytest.raises(ListError, match="no transforms"):
        read_transforms(path, images)
