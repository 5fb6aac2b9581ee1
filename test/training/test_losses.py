from __future__ import annotations

import pytest
import torch

from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.training.losses import ReprojectionLoss, masked_mean


@pytest.fixture
def setup():
    camera = Camera.from_colmap("PINHOLE", 200, 100, [100.0, 100.0, 100.0, 50.0]).expand(2)
    points = torch.rand(2, 40, 3, dtype=torch.float64) + torch.tensor([-0.5, -0.5, 2.0])
    return camera, points, Pose.identity(2, dtype=torch.float64)


def shifted(pose, metres):
    offset = torch.tensor([metres, 0.0, 0.0], dtype=torch.float64)
    return Pose(pose.rotation, pose.translation + offset)


def test_is_zero_at_the_truth_and_grows_away_from_it(setup):
    camera, points, truth = setup
    loss = ReprojectionLoss()
    values = [
        float(loss(camera, points, truth, truth, [shifted(truth, m)], [1])[0].mean())
        for m in (0.0, 0.02, 0.1)
    ]
    assert values[0] == 0.0
    assert values[0] < values[1] < values[2]


def test_a_level_counts_only_after_a_successful_coarser_one(setup):
    camera, points, truth = setup
    loss = ReprojectionLoss()
    far, near = shifted(truth, 3.0), shifted(truth, 0.02)
    total, errors = loss(camera, points, truth, truth, [far, near], [16, 4])
    assert (errors[0] > 3 * 16).all()
    assert torch.allclose(total, errors[0] / 2)
    total, errors = loss(camera, points, truth, truth, [near, near], [16, 4])
    assert torch.allclose(total, (errors[0] + errors[1]) / 2)


def test_errors_are_clamped_and_too_few_points_count_nothing(setup):
    camera, points, truth = setup
    loss = ReprojectionLoss()
    total, errors = loss(camera, points, truth, truth, [shifted(truth, 30.0)], [1])
    assert (errors[0] <= loss.clamp_px).all()
    total, _ = loss(camera, points[:, :5], truth, truth, [shifted(truth, 0.1)], [1])
    assert (total == 0).all()


def test_masked_mean_of_nothing_is_zero():
    assert masked_mean(torch.ones(2, 3), torch.zeros(2, 3)).tolist() == [0.0, 0.0]
