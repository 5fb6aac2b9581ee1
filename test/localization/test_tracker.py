from __future__ import annotations

import pytest
import torch

from pixloc_ros.geometry import Pose
from pixloc_ros.localization import (
    LocalizationResult,
    Observed,
    State,
    Status,
    Tracker,
    TrackerOptions,
)
from pixloc_ros.localization.frames import base_covariance

MOUNT = Pose.exp(torch.tensor([0.2, 0.0, 0.5, 0.1, -1.2, 0.4], dtype=torch.float64))
MAP_FROM_ODOM = Pose.exp(torch.tensor([5.0, -2.0, 0.0, 0.0, 0.0, 0.7], dtype=torch.float64))


def driven(stamp):
    """odom_from_base of a robot that drives a curve at 0.5 m/s."""
    return Pose.exp(torch.tensor([0.5, 0, 0, 0, 0, 0.2], dtype=torch.float64) * stamp)


def observed(stamp, odometry=True):
    return Observed(stamp, MOUNT, driven(stamp) if odometry else None)


def answer(stamp, offset=0.0):
    base = MAP_FROM_ODOM @ driven(stamp)
    base = Pose(base.rotation, base.translation + torch.tensor([offset, 0, 0]).double())
    return LocalizationResult(
        Status.SUCCESS,
        "aligned",
        cam_from_map=(base @ MOUNT).inverse(),
        covariance=torch.eye(6, dtype=torch.float64) * 1e-4,
    )


def refused():
    return LocalizationResult(Status.REJECTED, "few inliers")


def tracking(odometry=True):
    tracker = Tracker()
    for stamp in (0.0, 0.1):
        fix, _ = tracker.update(answer(stamp), observed(stamp, odometry))
    assert fix is not None
    return tracker


def test_first_fix_needs_two_estimates_that_agree():
    tracker = Tracker()
    assert tracker.state is State.UNLOCALIZED
    assert tracker.prior(observed(0.0)) is None
    fix, result = tracker.update(answer(0.0), observed(0.0))
    assert fix is None
    assert "second estimate" in result.reason
    assert tracker.state is State.RELOCALIZING
    assert tracker.prior(observed(1.0)) is None
    # the robot moved half a metre between them: odometry explains it
    fix, result = tracker.update(answer(1.0), observed(1.0))
    assert fix is not None
    assert result.ok
    assert tracker.state is State.TRACKING
    expected = MAP_FROM_ODOM @ driven(1.0)
    assert torch.allclose(fix.map_from_base.matrix(), expected.matrix(), atol=1e-9)
    assert torch.allclose(fix.map_from_odom.matrix(), MAP_FROM_ODOM.matrix(), atol=1e-9)


def test_two_estimates_that_disagree_are_no_fix():
    tracker = Tracker()
    tracker.update(answer(0.0, offset=3.0), observed(0.0))
    fix, _ = tracker.update(answer(0.1), observed(0.1))
    assert fix is None
    assert tracker.state is State.RELOCALIZING
    assert tracker.update(answer(0.2), observed(0.2))[0] is not None


def test_a_refusal_between_starts_the_first_fix_over():
    tracker = Tracker()
    tracker.update(answer(0.0), observed(0.0))
    tracker.update(refused(), observed(0.1))
    assert tracker.state is State.UNLOCALIZED
    assert tracker.update(answer(0.2), observed(0.2))[0] is None


def test_the_prior_is_the_last_fix_carried_by_odometry():
    prior = tracking().prior(observed(2.0))
    expected = (MAP_FROM_ODOM @ driven(2.0) @ MOUNT).inverse()
    assert torch.allclose(prior.cam_from_map.matrix(), expected.matrix(), atol=1e-9)


def test_without_odometry_the_robot_is_expected_where_it_was():
    tracker = tracking(odometry=False)
    assert tracker.fix.map_from_odom is None
    prior = tracker.prior(observed(0.5, odometry=False))
    expected = (MAP_FROM_ODOM @ driven(0.1) @ MOUNT).inverse()
    assert torch.allclose(prior.cam_from_map.matrix(), expected.matrix(), atol=1e-9)
    # and may have moved as fast as a robot does
    assert tracker.update(answer(0.5), observed(0.5, odometry=False))[0] is not None
    fix, result = tracker.update(answer(0.6, offset=4.0), observed(0.6, odometry=False))
    assert fix is None
    assert "motion allows" in result.reason


def test_a_jump_is_refused_while_tracking():
    tracker = tracking()
    fix, result = tracker.update(answer(0.2, offset=0.8), observed(0.2))
    assert fix is None
    assert result.status is Status.REJECTED
    assert "from where motion allows" in result.reason
    assert tracker.state is State.COASTING
    assert tracker.update(answer(0.3), observed(0.3))[0] is not None
    assert tracker.state is State.TRACKING


def test_coasts_then_is_lost_then_found_again():
    tracker = tracking()
    options = TrackerOptions()
    assert tracker.update(refused(), observed(0.2))[0] is None
    assert tracker.state is State.COASTING
    assert tracker.prior(observed(0.3)) is not None
    tracker.update(refused(), observed(0.2 + options.lost_after))
    assert tracker.state is State.LOST
    assert tracker.prior(observed(3.0)) is None
    # a kidnapped robot: the map_from_odom of old no longer matters
    assert tracker.update(answer(4.0, offset=9.0), observed(4.0))[0] is None
    assert tracker.state is State.RELOCALIZING
    assert tracker.update(answer(4.1, offset=9.0), observed(4.1))[0] is not None
    assert tracker.state is State.TRACKING


def test_lost_again_while_relocalizing():
    tracker = tracking()
    tracker.update(refused(), observed(5.0))
    tracker.update(answer(5.1), observed(5.1))
    tracker.update(refused(), observed(5.2))
    assert tracker.state is State.LOST


def test_reset_forgets():
    tracker = tracking()
    tracker.reset()
    assert tracker.state is State.UNLOCALIZED
    assert tracker.prior(observed(0.3)) is None


def test_base_covariance_matches_sampling():
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    covariance = 1e-6 * (mix @ mix.T)
    cam_from_map = (MAP_FROM_ODOM @ driven(3.0) @ MOUNT).inverse()
    factor = torch.linalg.cholesky(covariance)
    delta = torch.randn(20_000, 6, generator=generator, dtype=torch.float64) @ factor.T
    base = (MOUNT @ cam_from_map).inverse()
    moved = (
        Pose.stack([MOUNT])[0].expand(20_000) @ cam_from_map.expand(20_000).perturb(delta)
    ).inverse()
    position = moved.translation - base.translation
    turn = (moved.rotation @ base.rotation.T).sub(torch.eye(3).double())
    axes = torch.stack([turn[:, 2, 1], turn[:, 0, 2], turn[:, 1, 0]], -1)
    sampled = torch.cov(torch.cat([position, axes], -1).T)
    claimed = base_covariance(covariance, cam_from_map, MOUNT)
    assert torch.allclose(claimed, sampled, rtol=0.06, atol=0.03 * float(claimed.diagonal().max()))


@pytest.mark.parametrize(("allowed", "agrees"), [(0.2, False), (0.4, True)])
def test_options_bound_the_agreement(allowed, agrees):
    tracker = Tracker(TrackerOptions(agreement_m=allowed))
    tracker.update(answer(0.0), observed(0.0))
    fix, _ = tracker.update(answer(0.1, offset=0.3), observed(0.1))
    assert (fix is not None) is agrees
