from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixloc_ros.geometry import CAUCHY, SQUARED, RobustKernel, huber

KERNELS = [SQUARED, CAUCHY, huber(0.3)] + [
    RobustKernel(alpha, 0.5) for alpha in (-float("inf"), -2.0, 0.5, 1.0, 1.5)
]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@given(x=st.floats(1e-6, 1e4))
def test_weight_is_the_derivative_of_the_cost(kernel, x):
    squared = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    cost, weight = kernel(squared)
    (slope,) = torch.autograd.grad(cost, squared)
    assert torch.allclose(weight, slope, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_small_residuals_cost_their_square(kernel):
    squared = torch.tensor([0.0, 1e-8], dtype=torch.float64)
    cost, weight = kernel(squared)
    assert torch.allclose(cost, squared, rtol=1e-4, atol=1e-15)
    assert torch.allclose(weight, torch.ones(2).double(), atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS[1:], ids=str)
def test_large_residuals_lose_weight(kernel):
    _, weight = kernel(torch.logspace(-4, 4, 50, dtype=torch.float64))
    assert (weight.diff() <= 0).all()
    assert weight[-1] < 0.1


def test_limits_of_the_family_agree():
    x = torch.logspace(-3, 1, 20, dtype=torch.float64)
    for alpha, near in [(0.0, 1e-6), (2.0, 2.0 - 1e-6)]:
        for ours, other in zip(
            RobustKernel(alpha, 0.4)(x), RobustKernel(near, 0.4)(x), strict=True
        ):
            assert torch.allclose(ours, other, rtol=1e-4)


def test_a_scale_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        RobustKernel(0.0, 0.0)
