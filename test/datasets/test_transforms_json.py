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
    assert fisheye.lens.equidistant


def test_mistakes(images):
    scaled = (2 * np.eye(4)).tolist()
    for frames, more, message in (
        ([], {}, "no transforms"),
        ([frame("images/none")], {}, "no image 'images/none'"),
        ([frame("../../etc/passwd")], {}, "no image"),
        ([frame("images/a", [[1, 2]])], {}, "not 4 x 4"),
        ([frame("images/a", scaled)], {}, "no rotation"),
        ([frame("images/a"), frame("images/a.png")], {}, "listed twice"),
        ([frame("images/a")], {"fl_x": "x"}, "without usable intrinsics"),
        ([frame("images/a")], {"camera_model": "EQUIRECTANGULAR"}, "is not supported"),
    ):
        with pytest.raises(ListError, match=message):
            read(images, frames, **more)
    path = images.parent / "transforms.json"
    path.write_text("{")
    with pytest.raises(ListError, match="no transforms"):
        read_transforms(path, images)


def test_intrinsics_of_each_frame(images):
    own = {"fl_x": 70.0, "cx": 40.0, "cy": 30.0, "w": 80, "h": 60}
    alike = read(images, [frame("images/a", **own), frame("images/b", **own)])
    camera, poses = alike
    assert camera.focal.tolist() == [70, 70]
    assert len(poses) == 2
    unlike = read(images, [frame("images/a", **own), frame("images/b", **{**own, "fl_x": 80.0})])
    assert unlike.cameras["a.png"].focal[0] == 70
    assert unlike.cameras["b.jpg"].focal[0] == 80
    with pytest.raises(ListError, match="several cameras"):
        _ = unlike.camera


def test_names_of_other_tools(images):
    """Windows' separators, names below the folder, and a folder of smaller copies."""
    for name in ("images\\a.png", ".\\images\\a", "a.png", "images_8/a.png", "./a"):
        _, poses = read(images, [frame(name)])
        assert list(poses) == ["a.png"]


def test_frames_without_their_image_are_left_out_when_few(images):
    frames = [frame("images/a"), frame("images/b"), frame("images/blurred")]
    listed = read(images, frames)
    assert list(listed.poses) == ["a.png", "b.jpg"]
    assert listed.left_out.reasons == {"without its image": 1}
    with pytest.raises(ListError, match="1 of 3 frames can be used: 2 without its image"):
        read(images, [frame("images/a"), frame("images/c"), frame("images/d")])
    (images / "b.jpg").write_bytes(b"no image")
    listed = read(images, frames[:2])
    assert listed.left_out.reasons == {"with an image that cannot be read": 1}


def test_images_of_another_size(images):
    smaller, _ = read(images, [frame("images/a")], fl_x=140.0, cx=80.0, cy=60.0, w=160, h=120)
    assert smaller.focal.tolist() == [70, 70]
    assert smaller.centre.tolist() == [40, 30]
    with pytest.raises(ListError, match="80 x 60 pixels, w and h are 60 x 80"):
        read(images, [frame("images/a")], w=60, h=80)


def test_bad_frames_cost_only_themselves(images):
    columns = np.array(LOOKING, float).T.tolist()
    good = [frame("images/a"), frame("images/b.jpg")]
    for bad, reason in (
        (frame("images/a", columns), "without a usable pose"),
        (frame("images/a", [[float("nan")] * 4] * 4), "without a usable pose"),
        (frame("images/a", fl_x="wide"), "without usable intrinsics"),
        (3, "that are none"),
    ):
        listed = read(images, [*good[1:], bad, *good[:1]])
        assert listed.left_out.reasons == {reason: 1}
        assert sorted(listed.poses) == ["a.png", "b.jpg"]
    with pytest.raises(ListError, match="by columns"):
        read(images, [frame("images/a", columns)])


def test_an_image_of_another_folder_is_not_taken(images):
    with pytest.raises(ListError, match="without its image"):
        read(images, [frame("left/a.png")])
    (images / "c.JPG").write_bytes((images / "b.jpg").read_bytes())
    assert list(read(images, [frame("images/c")]).poses) == ["c.JPG"]
