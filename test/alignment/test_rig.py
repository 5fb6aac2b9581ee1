"""Two cameras of a rig: one pose, the points of both."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pixloc_ros.alignment import (
    LMOptions,
    RigProblem,
    learned_damping,
    linearize,
    linearize_rig,
    optimize_level,
)
from pixloc_ros.geometry import Pose

OFFSET = Pose.exp(torch.tensor([0.3, -0.1, 0.2, 0.1, 0.5, -0.2], dtype=torch.float64))


@pytest.fixture
def rig(scene):
    """The scene's camera, and a second one that sees the same picture of other points."""
    problem, truth = scene
    moved = (truth.inverse() @ OFFSET.inverse() @ truth).transform(problem.points)
    other = replace(problem, points=moved)
    identity = Pose.identity(dtype=torch.float64)
    return RigProblem((problem, other), (identity, OFFSET)), truth


def test_one_camera_at_the_rig_is_the_plain_problem(scene):
    problem, truth = scene
    alone = RigProblem((problem,), (Pose.identity(dtype=torch.float64),))
    start = Pose.stack([truth, truth.perturb(torch.full((6,), 0.02, dtype=torch.float64))])
    expected, found = linearize(problem, start), linearize_rig(alone, start)
    for name in expected.__dataclass_fields__:
        assert torch.allclose(getattr(found, name), getattr(expected, name)), name


def test_gradient_is_that_of_the_cost(rig):
    """Of half the squared residuals, whose weights are held as the robust ones are."""
    problem, truth = rig
    start = truth.perturb(torch.tensor([0.01, -0.02, 0.01, 0.01, 0.005, -0.01]).double())[None]
    weight = linearize_rig(problem, start).weight.detach()
    delta = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    system = linearize_rig(problem, start.perturb(delta))
    (0.5 * (weight * system.squared).sum()).backward()
    assert torch.allclose(delta.grad, linearize_rig(problem, start).gradient, rtol=2e-2, atol=1e-6)


def test_the_rig_is_found_and_is_surer_than_one_camera(rig):
    problem, truth = rig
    start = truth.perturb(torch.full((6,), 0.03, dtype=torch.float64))[None]
    damping = learned_damping(torch.full((6,), -5.0, dtype=torch.float64))
    result = optimize_level(problem, start, damping, LMOptions(iterations=60, tolerance=1e-6))
    metres, radians = result.pose[0].distance(truth)
    assert float(metres) < 1e-4
    assert float(radians) < 1e-4
    single = linearize(problem.problems[0], result.pose).hessian
    assert torch.linalg.eigvalsh(result.system.hessian - single).min() > -1e-9
    assert result.system.pixels.shape[1] == 500
