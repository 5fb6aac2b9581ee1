from __future__ import annotations

import torch
from torch.autograd.functional import jacobian

from pixloc_ros.alignment import linearize
from pixloc_ros.geometry import SQUARED, Pose


def off(truth, size, count=1):
    generator = torch.Generator().manual_seed(2)
    delta = size * torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return Pose.stack([truth] * count).perturb(delta)


def test_equals_the_sum_of_full_jacobian_blocks(scene):
    """The reduced form against J^T W J with the N x C x 6 array that it avoids."""
    problem, truth = scene
    pose = off(truth, 0.05)
    system = linearize(problem, pose)
    points = pose.transform(problem.points)
    pixels, to_pixels, _ = problem.camera.project_with_jacobian(points)
    value, slope = problem.query.features.sample_with_gradient(pixels)
    blocks = slope.transpose(-1, -2) @ to_pixels @ pose.transform_jacobian(points)
    residual = value - problem.features
    weight = system.weight
    hessian = torch.einsum("bn,bnci,bncj->bij", weight, blocks, blocks)
    gradient = torch.einsum("bn,bnci,bnc->bi", weight, blocks, residual)
    assert torch.allclose(system.hessian, hessian, rtol=1e-9)
    assert torch.allclose(system.gradient, gradient, rtol=1e-9, atol=1e-12)


def test_gradient_is_the_derivative_of_the_weighted_cost(scene, change):
    """With the squared kernel and fixed confidences, g is half the slope of sum c |r|^2."""
    problem, truth = scene
    problem = change(problem, kernel=SQUARED)
    pose = off(truth, 0.02)
    system = linearize(problem, pose)
    confidence = system.confidence

    def cost(delta):
        moved = linearize(problem, pose.perturb(delta))
        return 0.5 * (confidence * moved.squared).sum()

    numeric = jacobian(cost, torch.zeros(1, 6, dtype=torch.float64))[0]
    # the map's slope is a difference over two cells, not the derivative of the interpolation
    assert torch.allclose(system.gradient[0], numeric, rtol=0.05, atol=0.02 * numeric.abs().max())


def test_vanishes_at_the_truth(scene):
    problem, truth = scene
    system = linearize(problem, truth[None])
    assert system.valid.all()
    assert float(system.cost) < 1e-12
    assert system.gradient.abs().max() < 1e-9
    assert float(linearize(problem, off(truth, 0.05)).cost) > 1e-3


def test_unseen_points_carry_no_weight_but_cost(scene, change):
    problem, truth = scene
    behind = problem.points.clone()
    behind[:, :50] = truth.inverse().transform(torch.tensor([[0, 0, -2.0]]).double())
    partly = linearize(change(problem, points=behind), truth[None])
    assert not partly.valid[0, :50].any()
    assert (partly.weight[0, :50] == 0).all()
    without = problem.mask.clone()
    without[:, :50] = False
    rest = linearize(change(problem, mask=without), truth[None])
    assert torch.allclose(partly.hessian, rest.hessian)
    assert torch.allclose(partly.gradient, rest.gradient)
    # looking away must never be the cheapest way to align
    assert float(partly.cost) > float(rest.cost)


def test_confidence_scales_the_weight(scene, change):
    problem, truth = scene
    pose = off(truth, 0.05)
    whole = linearize(problem, pose)
    half = linearize(change(problem, confidence=problem.confidence / 2), pose)
    assert torch.allclose(half.hessian, whole.hessian / 2)
    assert torch.allclose(half.cost, whole.cost)


def test_hypotheses_do_not_mix(scene):
    problem, truth = scene
    poses = off(truth, 0.1, count=4)
    together = linearize(problem, poses)
    for i in range(4):
        alone = linearize(problem, poses[i : i + 1])
        assert torch.allclose(together.hessian[i], alone.hessian[0], rtol=1e-12)
        assert torch.equal(together.valid[i], alone.valid[0])


def test_a_pose_that_is_not_finite_sees_nothing(scene):
    problem, truth = scene
    broken = Pose(truth.rotation[None], torch.full((1, 3), float("nan"), dtype=torch.float64))
    system = linearize(problem, broken)
    assert not system.valid.any()
    assert torch.isfinite(system.hessian).all()
    assert torch.isfinite(system.cost).all()
