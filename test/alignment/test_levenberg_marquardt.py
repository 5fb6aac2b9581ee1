from __future__ import annotations

import itertools

import pytest
import torch

from pixloc_ros.alignment import LMOptions, align, damped_step, learned_damping, optimize_level
from pixloc_ros.geometry import Pose

DAMPING = torch.full((6,), 1e-3, dtype=torch.float64)


def starts(truth, count, size=0.06):
    generator = torch.Generator().manual_seed(7)
    delta = size * torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return Pose.stack([truth] * count).perturb(delta)


@pytest.mark.parametrize("reject", [True, False])
def test_converges_to_the_truth(scene, reject):
    problem, truth = scene
    options = LMOptions(iterations=60, tolerance=1e-5, reject_steps=reject)
    result = optimize_level(problem, starts(truth, 6), DAMPING, options)
    metres, radians = result.pose.distance(Pose.stack([truth] * 6))
    assert not result.failed.any()
    assert metres.max() < 1e-3
    assert radians.max() < 1e-3


def test_rejection_never_raises_the_cost(scene):
    problem, truth = scene
    costs = []
    optimize_level(
        problem,
        starts(truth, 1, 0.3),
        torch.full((6,), 1e-6, dtype=torch.float64),
        LMOptions(iterations=30, tolerance=0.0),
        lambda number, system, delta, pose: costs.append(float(system.cost)),
    )
    assert len(costs) == 30
    assert all(after <= before for before, after in itertools.pairwise(costs))


def test_stops_when_nothing_moves(scene):
    problem, truth = scene
    iterations = []
    result = optimize_level(
        problem,
        truth[None],
        DAMPING,
        LMOptions(iterations=50, tolerance=0.01),
        lambda number, *rest: iterations.append(number),
    )
    assert len(iterations) < 5
    assert float(result.system.cost) < 1e-9


def test_the_stop_does_not_depend_on_the_scale_of_the_map(scene, change):
    problem, truth = scene
    begin = starts(truth, 1)
    options = LMOptions(iterations=50, tolerance=0.05)
    small = optimize_level(problem, begin, DAMPING, options)
    scaled = change(problem, points=problem.points * 1000)
    large = optimize_level(
        scaled, Pose(begin.rotation, begin.translation * 1000), DAMPING, options
    )
    assert torch.equal(small.iterations, large.iterations)
    assert torch.allclose(large.pose.translation / 1000, small.pose.translation, atol=1e-6)


def test_a_hopeless_hypothesis_fails_alone(scene):
    problem, truth = scene
    behind = Pose(truth.rotation, truth.translation - torch.tensor([0, 0, 100.0]).double())
    broken = Pose(truth.rotation, torch.full((3,), float("nan")).double())
    good = starts(truth, 2)
    batch = Pose.cat([good, Pose.stack([behind, broken])])
    options = LMOptions(iterations=40)
    result = optimize_level(problem, batch, DAMPING, options)
    assert result.failed.tolist() == [False, False, True, True]
    alone = optimize_level(problem, good, DAMPING, options)
    assert torch.allclose(result.pose.translation[:2], alone.pose.translation, atol=1e-9)


def test_levels_chain_and_failures_stick(scene, change):
    problem, truth = scene
    blind = change(problem, mask=torch.zeros_like(problem.mask))
    options = LMOptions(iterations=20)
    result = align([blind, problem], starts(truth, 2), [DAMPING, DAMPING], options)
    assert result.failed.all()
    fine = align([problem, problem], starts(truth, 2), [DAMPING, DAMPING], options)
    assert not fine.failed.any()
    with pytest.raises(ValueError, match="at least one level"):
        align([], starts(truth, 1), [], options)


def test_is_differentiable_in_features_and_damping(scene, change):
    problem, truth = scene
    features = problem.features.clone().requires_grad_()
    theta = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    options = LMOptions(iterations=4, tolerance=0.0, reject_steps=False)
    result = optimize_level(
        change(problem, features=features), starts(truth, 1), learned_damping(theta), options
    )
    error = (result.pose.translation - truth.translation).pow(2).sum()
    grads = torch.autograd.grad(error, (features, theta))
    assert all(torch.isfinite(g).all() and g.abs().max() > 0 for g in grads)


def test_damping_range():
    theta = torch.tensor([-50.0, 0.0, 50.0])
    assert torch.allclose(learned_damping(theta), torch.tensor([1e-6, 10**-0.5, 1e5]), rtol=1e-4)


def test_a_singular_system_moves_nothing():
    hessian = torch.zeros(3, 6, 6)
    hessian[1] = torch.eye(6)
    hessian[2] = float("inf")
    gradient = torch.ones(3, 6)
    delta, solved = damped_step(hessian, gradient, torch.zeros(6))
    assert solved.tolist() == [True, True, False]  # the floor makes the empty one solvable
    assert torch.allclose(delta[1], -torch.ones(6), atol=1e-4)
    assert (delta[2] == 0).all()
    negative = -torch.eye(6)[None]
    assert not damped_step(negative, gradient[:1], torch.zeros(6))[1].any()
