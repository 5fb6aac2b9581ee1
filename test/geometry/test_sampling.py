from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pixloc_ros.geometry import FeatureTable


def interior(count, height=12, width=17, margin=2.0):
    points = torch.rand(count, 2, dtype=torch.float64)
    return points * torch.tensor([width - 2 * margin, height - 2 * margin]) + margin


@pytest.fixture
def feature_map():
    return torch.randn(5, 12, 17, dtype=torch.float64)


def test_agrees_with_grid_sample_everywhere(feature_map):
    points = torch.rand(300, 2, dtype=torch.float64) * torch.tensor([21.0, 16.0]) - 2
    grid = points / torch.tensor([17.0, 12.0]) * 2 - 1
    expected = F.grid_sample(feature_map[None], grid[None, None], align_corners=False)[0, :, 0].T
    assert torch.allclose(FeatureTable(feature_map).sample(points), expected, atol=1e-12)


def test_a_cell_centre_gives_the_cell(feature_map):
    for mode in ("linear", "cubic"):
        value = FeatureTable(feature_map).sample(torch.tensor([[3.5, 7.5]]).double(), mode)
        assert torch.allclose(value[0], feature_map[:, 7, 3])


def test_linear_gradient_is_the_central_difference_over_two_cells(feature_map):
    table, points = FeatureTable(feature_map), interior(50)
    _, gradient = table.sample_with_gradient(points)
    for axis, step in enumerate(torch.eye(2, dtype=torch.float64)):
        expected = (table.sample(points + step) - table.sample(points - step)) / 2
        assert torch.allclose(gradient[:, axis], expected, atol=1e-12)


def test_cubic_gradient_is_the_derivative(feature_map):
    table = FeatureTable(feature_map)
    points = interior(20).requires_grad_()
    value, gradient = table.sample_with_gradient(points, "cubic")
    for channel in range(5):
        (numeric,) = torch.autograd.grad(value[:, channel].sum(), points, retain_graph=True)
        assert torch.allclose(gradient[:, :, channel], numeric, atol=1e-9)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_gradients_reach_map_and_points(feature_map, mode):
    points = (interior(4).floor() + 0.8).requires_grad_()  # away from the kinks
    small = feature_map[:2].clone().requires_grad_()

    def sample(m, p):
        value, gradient = FeatureTable(m).sample_with_gradient(p, mode)
        return value, gradient

    assert torch.autograd.gradcheck(sample, (small, points))


def test_batched_maps_are_sampled_each_with_its_own_points():
    maps = torch.randn(3, 4, 9, 8)
    points = torch.rand(3, 6, 2) * torch.tensor([8.0, 9.0])
    together, slopes = FeatureTable(maps).sample_with_gradient(points)
    for i in range(3):
        alone, slope = FeatureTable(maps[i]).sample_with_gradient(points[i])
        assert torch.allclose(together[i], alone)
        assert torch.allclose(slopes[i], slope)


def test_far_and_non_finite_points_sample_zero(feature_map):
    points = torch.tensor([[1e30, 0], [-1e30, 5], [float("nan"), 3], [float("inf"), 3]]).double()
    table = FeatureTable(feature_map)
    value, gradient = table.sample_with_gradient(points)
    assert (value == 0).all()
    assert (gradient == 0).all()
    assert not table.inside(points).any()


def test_no_points_give_no_values(feature_map):
    table = FeatureTable(feature_map)
    value, gradient = table.sample_with_gradient(torch.empty(0, 2))
    assert value.shape == (0, len(feature_map))
    assert gradient.shape == (0, 2, len(feature_map))
    assert FeatureTable(feature_map[None]).sample(torch.empty(1, 0, 2)).shape[:2] == (1, 0)


def test_inside_keeps_the_padding(feature_map):
    table = FeatureTable(feature_map)
    edge = torch.tensor([[0.5, 0.5], [16.5, 11.5], [2.5, 2.5], [14.5, 9.5]])
    assert table.inside(edge).all()
    assert table.inside(edge, 2).tolist() == [False, False, True, True]


@pytest.mark.parametrize("shape", [(4, 5), (1, 2, 3, 4, 5), (0, 4, 5), (3, 0, 5)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="feature map"):
        FeatureTable(torch.zeros(shape))
