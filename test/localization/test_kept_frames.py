"""Images that a node keeps: which, where, and how many."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixloc_ros.datasets import read_poses, read_queries
from pixloc_ros.features import read_image
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import LocalizationResult, Status, View
from pixloc_ros.localization.kept_frames import FrameKeeper
from pixloc_ros.mapping.health import Judgement
from pixloc_ros.mapping.sources.refresh import CAMERAS, POSES

CAMERA = Camera.from_colmap("OPENCV", 640, 480, [500, 501, 320, 240, 0.1, -0.02, 1e-3, 2e-3])
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8).repeat(8, 0).repeat(8, 1)


def judgement(share, count=200):
    found = np.arange(count) < share * count
    return Judgement(np.arange(count), found, np.array([0]), np.zeros(count, int), found)


def offer(keeper, stamp, x=0.0, share=0.5, yaw=0.0, view=None):
    turn = torch.tensor([x, 0, 0, 0, yaw, 0], dtype=torch.float64)
    pose = Pose.identity(dtype=torch.float64).perturb(turn)
    result = LocalizationResult(Status.SUCCESS, "", pose)
    said = None if share is None else judgement(share)
    keeper.offer(result, [view or View(IMAGE, CAMERA)], said, stamp)
    return pose


def test_what_is_kept_can_be_read_again(tmp_path):
    keeper = FrameKeeper(tmp_path / "hall", 10.0, pytest.fail)
    pose = offer(keeper, 12.5, 0.3)
    offer(keeper, 13.5, 2.0, view=View(IMAGE[..., 0], CAMERA))
    folder = tmp_path / "hall"
    cameras, poses = read_queries(folder / CAMERAS), read_poses(folder / POSES)
    assert list(cameras) == list(poses) == ["12.500000.jpg", "13.500000.jpg"]
    assert torch.allclose(poses["12.500000.jpg"].matrix(), pose.matrix())
    assert torch.allclose(cameras["12.500000.jpg"].numbers(), CAMERA.numbers())
    image = read_image(folder / "12.500000.jpg").astype(int)
    assert np.abs(image - IMAGE).mean() < 12


def test_only_weak_places_and_each_once(tmp_path):
    keeper = FrameKeeper(tmp_path, 10.0, pytest.fail)
    offer(keeper, 1.0, 0.0, share=0.95)  # the map is as it was
    offer(keeper, 2.0, 0.0)
    offer(keeper, 3.0, 0.2)  # there is one from about there
    offer(keeper, 4.0, 0.2, yaw=0.5)
    offer(keeper, 5.0, 5.0, share=None)  # from where nothing of the map can be judged
    again = FrameKeeper(tmp_path, 10.0, pytest.fail)
    offer(again, 6.0, 5.1)
    offer(again, 7.0, 9.0)
    kept = [f"{stamp:.6f}.jpg" for stamp in (2.0, 4.0, 5.0, 7.0)]
    assert list(read_poses(tmp_path / POSES)) == kept


def test_the_folder_does_not_grow_beyond_its_room(tmp_path):
    warned = []
    for start in (0, 100):
        keeper = FrameKeeper(tmp_path, 0.2, warned.append)
        for number in range(20):
            offer(keeper, start + number, 10.0 * (start + number))
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert 0.1 < size / 2**20 < 0.21
    assert len(warned) == 2
    assert "no more room" in warned[0]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    warned = []
    offer(FrameKeeper(tmp_path / "file" / "hall", 10.0, warned.append), 1.0)
    assert "no more images are kept" in warned[0]
    (tmp_path / POSES).write_text("1.jpg nonsense\n")
    offer(FrameKeeper(tmp_path, 10.0, warned.append), 1.0)
    assert "expected 'name qw qx" in warned[1]
    assert len(warned) == 2
