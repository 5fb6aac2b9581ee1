from __future__ import annotations

import pytest
import torch

from pixloc_ros.geometry import Camera, FeatureTable, Pose
from pixloc_ros.training.losses import (
    ContrastiveLoss,
    GaussNewtonLoss,
    ReprojectionLoss,
    masked_mean,
    overlap_loss,
)


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


def dense(seed=0, channels=16, size=12):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(1, channels, size, size, generator=generator)
    return torch.nn.functional.normalize(query, dim=1)


def cells(size=12):
    y, x = torch.meshgrid(torch.arange(1, size, 3), torch.arange(1, size, 3), indexing="ij")
    return torch.stack([x, y], -1).reshape(1, -1, 2).float() + 0.5


def test_contrast_is_least_when_every_point_is_nearest_to_its_own():
    query, targets = dense(), cells()
    own = query[0, :, targets[0, :, 1].long(), targets[0, :, 0].long()].T[None]
    seen = torch.ones(1, targets.shape[1], dtype=torch.bool)
    loss = ContrastiveLoss()
    right, matched = loss(own, query, targets, seen)
    wrong, mismatched = loss(own.flip(1), query, targets, seen)
    assert float(right) < 0.5 < float(wrong)
    assert float(matched) == 1.0
    assert float(mismatched) < 0.2


def test_contrast_ignores_unseen_points_and_what_is_near():
    query, targets = dense(), cells()
    own = query[0, :, targets[0, :, 1].long(), targets[0, :, 0].long()].T[None]
    seen = torch.ones(1, targets.shape[1], dtype=torch.bool)
    spoiled = own.clone()
    spoiled[:, 0] = own[:, 5]
    hidden = seen.clone()
    hidden[:, 0] = False
    loss = ContrastiveLoss(radius=0.5)
    assert torch.isfinite(loss(spoiled, query, targets, hidden)[0]).all()
    assert float(loss(spoiled, query, targets, hidden)[0]) < float(
        loss(spoiled, query, targets, seen)[0]
    )
    # with every other cell "near", nothing is left to be confused with
    alone, _ = ContrastiveLoss(radius=100.0)(own, query, targets, seen)
    assert float(alone) == pytest.approx(0.0, abs=1e-5)
    nothing, _ = loss(own, query, targets, torch.zeros_like(seen))
    assert float(nothing) == 0.0


def smooth_query(size=24):
    """A map whose channels are smooth, so that a step from beside the truth can succeed."""
    y, x = torch.meshgrid(torch.arange(size) / 6.0, torch.arange(size) / 6.0, indexing="ij")
    maps = [torch.sin(x), torch.cos(x), torch.sin(y), torch.cos(y), torch.sin(x + y)]
    return torch.nn.functional.normalize(torch.stack(maps)[None], dim=1)


def test_gauss_newton_loss_rewards_features_that_lead_to_the_truth():
    query, targets = smooth_query(), cells(18) + 3.0
    table = FeatureTable(query)
    features = torch.nn.functional.normalize(table.sample(targets), dim=-1)
    seen = torch.ones(1, targets.shape[1], dtype=torch.bool)
    offset = torch.rand(1, targets.shape[1], 2) * 2 - 1
    loss = GaussNewtonLoss()
    right = loss(features, query, targets, seen, offset)
    wrong = loss(features.flip(1), query, targets, seen, offset)
    flat = loss(features, torch.ones_like(query) / 5**0.5, targets, seen, offset)
    assert float(right) < float(flat)
    assert float(right) < float(wrong)


def test_gauss_newton_loss_is_the_likelihood_of_the_paper():
    """Against the 2 x 2 system in full for one point."""
    query, target = smooth_query(), torch.tensor([[[9.2, 8.7]]])
    feature = torch.nn.functional.normalize(torch.rand(1, 1, 5), dim=-1)
    offset = torch.tensor([[[0.3, -0.4]]])
    loss = GaussNewtonLoss(radius=1.0, sigma=0.2, damping=1e-2)
    value, slope = FeatureTable(query).sample_with_gradient(target + offset)
    jacobian = slope[0, 0].T / 0.2
    residual = (value - feature)[0, 0] / 0.2
    information = jacobian.T @ jacobian + 1e-2 * torch.eye(2)
    mean = target[0, 0] + offset[0, 0] - torch.linalg.solve(information, jacobian.T @ residual)
    normal = torch.distributions.MultivariateNormal(mean, precision_matrix=information)
    expected = -normal.log_prob(target[0, 0])
    found = loss(feature, query, target, torch.ones(1, 1, dtype=torch.bool), offset)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_overlap_loss_wants_what_overlaps_to_be_similar():
    overlap = torch.eye(3).repeat(2, 1, 1)
    overlap[:, 0, 1] = overlap[:, 1, 0] = 0.8  # the third view sees nothing of the others
    generator = torch.Generator().manual_seed(0)
    a, b, c, d = torch.nn.functional.normalize(torch.randn(4, 8, generator=generator), dim=-1)
    together = torch.stack([a, a, b, c, c, d])
    apart = torch.stack([a, b, a, c, d, c])
    good, bad = (float(overlap_loss(v, overlap, 2, 0.07).mean()) for v in (together, apart))
    assert good < 0.5 < bad
    assert overlap_loss(together, overlap, 1, 0.07).shape == (2,)
    alone = overlap_loss(together, torch.eye(3).repeat(2, 1, 1), 2, 0.07)
    assert float(alone) == 0.0
