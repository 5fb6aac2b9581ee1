from __future__ import annotations

import math
import sys

import numpy as np
import pycolmap
import pytest
import torch

from pixloc_ros.datasets.bag import read_ground_truth, write_bag
from pixloc_ros.datasets.raycast import Box, Scene, cast, pixel_rays
from pixloc_ros.datasets.rendered_room import base_pose, make_room, mount
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.mapping import read_colmap


def flat(value):
    return np.full((32, 32, 3), value, np.uint8)


@pytest.fixture
def camera():
    return Camera.from_colmap("PINHOLE", 64, 48, [40.0, 40.0, 32.0, 24.0])


def test_depth_is_exact(camera):
    """A wall two metres ahead, and a cube before it."""
    room = Box((0, 0, 0), (5, 4, 2), 0.0, [flat(v) for v in (10, 20, 30, 40, 50, 60)], True)
    cube = Box((1.0, 0.0, 0.0), (0.2, 0.2, 0.2), 0.0, [flat(200)] * 6)
    ahead = mount()
    ahead = Pose(ahead.rotation, torch.zeros(3).double()).inverse()  # looks along x
    image, depth = Scene([room, cube]).render(camera, ahead)
    assert depth[24, 32] == pytest.approx(0.8, abs=1e-5)
    assert depth[24, 2] == pytest.approx(5.0, abs=1e-4)
    assert image[24, 32, 0] == pytest.approx(200 * 0.85, abs=1)  # the face towards -x
    assert image[24, 2, 0] == pytest.approx(20 * 0.95, abs=1)  # the wall at +x


def test_a_turned_box_is_hit_at_its_edge(camera):
    cube = Box((2.0, 0.0, 0.0), (0.5, 0.5, 5.0), math.pi / 4, [flat(100)] * 6)
    room = Box((0, 0, 0), (9, 9, 9), 0.0, [flat(0)] * 6, True)
    ahead = Pose(mount().rotation, torch.zeros(3).double()).inverse()
    _, depth = Scene([room, cube]).render(camera, ahead)
    assert depth[24, 32] == pytest.approx(2.0 - 0.5 * math.sqrt(2), abs=0.02)


@pytest.mark.parametrize("model", ["PINHOLE", "OPENCV_FISHEYE"])
@pytest.mark.parametrize("time", [0.0, 7.0, 13.0, 31.0])
def test_boxes_are_seen_wherever_they_are(model, time):
    """Looked for where their corners are, they hide what they would hide when looked for
    everywhere: far ones, some beside the camera, some behind it.
    """
    scene = make_room(5)
    numbers = [0.0] * 4 if model == "OPENCV_FISHEYE" else []
    camera = Camera.from_colmap(model, 160, 120, [90.0, 90.0, 80.0, 60.0, *numbers])
    pose = mount().inverse() @ base_pose(time, 1.7, gaze=time).inverse()
    _, depth = scene.render(camera, pose)
    hits = cast(scene._boxes, *pixel_rays(camera[None, None], pose[None, None]))
    assert len(hits.box.unique()) > 2
    assert np.abs(depth.reshape(-1) - hits.distance.flatten().numpy()).max() < 1e-4


def test_neighbouring_views_agree_through_depth():
    """What one view sees, warped by depth and pose, is what another sees."""
    scene = make_room(5)
    camera = Camera.from_colmap("PINHOLE", 160, 120, [130.0, 130.0, 80.0, 60.0])
    poses = [mount().inverse() @ base_pose(t, 1.0).inverse() for t in (3.0, 3.3)]
    (first, depth), (second, _) = (scene.render(camera, pose) for pose in poses)
    v, u = np.mgrid[5:115:5, 5:155:5]
    pixels = torch.from_numpy(np.stack([u, v], -1).reshape(-1, 2)) + 0.5
    rays, _ = camera.unproject(pixels.double())
    z = torch.from_numpy(depth[v, u].reshape(-1)).double()
    points = poses[0].inverse().transform(rays * (z / rays[:, 2])[:, None])
    there, valid = camera.project(poses[1].transform(points))
    column, row = there[valid].floor().long().unbind(-1)
    difference = np.abs(first[v, u].reshape(-1, 3)[valid] - second[row, column]).mean(-1)
    assert valid.float().mean() > 0.6
    assert np.median(difference) < 6


def test_model_reprojects_where_its_keypoints_are(room):
    model = read_colmap(room.root / "sparse")
    loaded = pycolmap.Reconstruction(str(room.root / "sparse"))
    image = loaded.find_image_with_name(model.names[0])
    for keypoint in image.get_observation_points2D()[:20]:
        point = loaded.points3D[keypoint.point3D_id].xyz
        assert np.allclose(image.project_point(point), keypoint.xy, atol=1e-6)


def test_odometry_drifts_but_not_far(room):
    stamps = sorted(room.sequence.odometry)
    first, last = (room.sequence.odometry[s] for s in (stamps[0], stamps[-1]))
    true = [
        mount().inverse() @ base_pose(s - 100.0, 1.0).inverse() for s in (stamps[0], stamps[-1])
    ]
    moved, expected = first.inverse() @ last, true[0] @ true[1].inverse()
    metres, _ = moved.inverse().distance(expected.inverse())
    assert 1e-4 < float(metres) < 0.05 * float(expected.translation.norm()) + 0.01


def test_recording_holds_the_truth(room, tmp_path):
    write_bag(room.sequence, tmp_path / "bag", mount())
    truth = read_ground_truth(tmp_path / "bag")
    assert len(truth) == len(room.sequence.frames)
    for frame in room.sequence.frames:
        pose = next(p for s, p in truth.items() if abs(s - frame.stamp) < 1e-6)
        expected = base_pose(frame.stamp - 100.0, 1.0)
        assert torch.allclose(pose.matrix(), expected.matrix(), atol=1e-6)
    assert not (tmp_path / "bag.partial").exists()


def test_without_photographs_the_room_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(InputError, match="pip install scikit-image"):
        make_room(0)
