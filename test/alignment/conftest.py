"""A smooth feature map that is known in closed form, and points that see it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pixloc_ros.alignment import AlignmentProblem, QueryMap
from pixloc_ros.geometry import Camera, Pose


def waves(pixels, channels=16):
    """Unit features (..., C) at pixels (..., 2): plane waves of long periods."""
    generator = torch.Generator().manual_seed(4)
    direction = torch.rand(channels, generator=generator, dtype=torch.float64) * 2 * math.pi
    period = 25 + 40 * torch.rand(channels, generator=generator, dtype=torch.float64)
    vectors = torch.stack([direction.cos(), direction.sin()]) * 2 * math.pi / period
    phase = torch.rand(channels, generator=generator, dtype=torch.float64) * 6
    return F.normalize(torch.sin(pixels @ vectors + phase) + 0.3, dim=-1)


@pytest.fixture
def scene():
    """(problem, true pose): the problem's references are exact samples at the true pose."""
    height, width = 60, 80
    camera = Camera.from_colmap("PINHOLE", width, height, [70.0, 72.0, 40.5, 29.5])
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    dense = waves(torch.stack([u, v], -1).double() + 0.5).permute(2, 0, 1)
    generator = torch.Generator().manual_seed(5)
    depth = 2 + 3 * torch.rand(250, 1, generator=generator, dtype=torch.float64)
    pixels = torch.rand(250, 2, generator=generator, dtype=torch.float64)
    pixels = pixels * torch.tensor([72.0, 52.0]) + 4
    rays, _ = camera.unproject(pixels)
    truth = Pose.exp(torch.tensor([0.1, -0.2, 0.3, 0.2, -0.1, 0.15], dtype=torch.float64))
    points = truth.inverse().transform(rays * depth)
    table = QueryMap.of(dense, torch.full((height, width), 0.8, dtype=torch.float64))
    problem = AlignmentProblem(
        table,
        camera,
        points[None],
        table.features.sample(pixels)[None],
        torch.linspace(0.3, 1.0, 250, dtype=torch.float64)[None],
        torch.ones(1, 250, dtype=torch.bool),
    )
    return problem, truth


@pytest.fixture
def change():
    """Copies of a problem with fields replaced."""
    return lambda problem, **fields: replace(problem, **fields)
