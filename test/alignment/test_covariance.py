from __future__ import annotations

from dataclasses import replace

import torch

from pixloc_ros.alignment import (
    LMOptions,
    condition_number,
    linearize,
    optimize_level,
    pose_covariance,
)
from pixloc_ros.geometry import SQUARED, Pose


def test_matches_the_spread_of_noisy_alignments(scene, change):
    """White noise on whole feature vectors: the claimed sigma is the spread, within a factor."""
    problem, truth = scene
    problem = change(problem, kernel=SQUARED, confidence=torch.ones_like(problem.confidence))
    generator = torch.Generator().manual_seed(0)
    errors, claimed = [], []
    for _ in range(40):
        # one random direction a point: the whole vector moves as one measurement
        noise = torch.randn(problem.features.shape, generator=generator, dtype=torch.float64)
        noisy = change(problem, features=problem.features + 0.02 * noise)
        result = optimize_level(
            noisy, truth[None], torch.full((6,), 1e-6).double(), LMOptions(iterations=15)
        )
        errors.append((result.pose[0] @ truth.inverse()).log())
        claimed.append(pose_covariance(result.system)[0].diagonal())
    spread = torch.stack(errors).var(0)
    ratio = (torch.stack(claimed).mean(0) / spread).sqrt()
    # independent channels are the pessimistic end: C of them count as one measurement, so
    # sigma is claimed sqrt(C) = 4 times too large, and never too small
    assert ((ratio > 2.0) & (ratio < 8.0)).all(), ratio


def test_is_infinite_when_nothing_is_seen(scene):
    problem, truth = scene
    away = Pose(truth.rotation, truth.translation - torch.tensor([0, 0, 100.0]).double())
    system = linearize(problem, away[None])
    assert torch.isinf(pose_covariance(system)).all()
    assert torch.isinf(condition_number(system)).all()


def test_scales_with_residuals_and_with_the_map(scene):
    problem, truth = scene
    system = linearize(problem, truth[None].perturb(torch.full((1, 6), 0.01).double()))
    base = pose_covariance(system)
    louder = pose_covariance(replace(system, squared=4 * system.squared))
    assert torch.allclose(louder, 4 * base)
    weaker = pose_covariance(replace(system, hessian=system.hessian / 4))
    assert torch.allclose(weaker, 4 * base)
    assert torch.linalg.eigvalsh(base)[0, 0] > 0


def test_a_point_without_weight_says_nothing_of_the_noise(scene):
    """One residual in a hundred is an outlier that the robust kernel has taken out."""
    problem, truth = scene
    system = linearize(problem, truth[None].perturb(torch.full((1, 6), 0.01).double()))
    weights, squared = system.weight.clone(), system.squared.clone()
    weights[:, 0] = 0.0
    quiet = pose_covariance(replace(system, weight=weights))
    squared[:, 0] = 1e6
    loud = pose_covariance(replace(system, weight=weights, squared=squared))
    assert torch.allclose(quiet, loud)


def test_condition_ignores_units(scene):
    problem, truth = scene
    system = linearize(problem, truth[None])
    units = torch.tensor([1e3, 1e3, 1e3, 1.0, 1.0, 1.0]).double()
    scaled = replace(system, hessian=system.hessian * units[:, None] * units)
    assert torch.allclose(condition_number(scaled), condition_number(system), rtol=1e-6)
