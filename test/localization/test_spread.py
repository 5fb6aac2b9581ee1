"""How much of an image matches fill."""

from __future__ import annotations

import pytest
import torch

from pixloc_ros.geometry import Camera
from pixloc_ros.localization.spread import spread

CAMERA = Camera.from_colmap("PINHOLE", 640, 480, [500, 500, 320, 240])


def filled(low, high, count=400):
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor(low).double(), torch.tensor(high).double()
    pixels = low + torch.rand(count, 2, generator=generator).double() * (high - low)
    return spread(pixels, CAMERA)


def test_all_of_the_image():
    assert filled([0.0, 0.0], [640.0, 480.0]) == pytest.approx(15.3, abs=1.0)


@pytest.mark.parametrize("corner", [[160.0, 120.0], [240.0, 180.0], [80.0, 300.0]])
def test_one_part_wherever_it_is(corner):
    x, y = corner
    assert filled(corner, [x + 160, y + 120]) < 1.6


def test_a_strip():
    assert filled([0.0, 0.0], [100.0, 480.0]) > 3


def test_none():
    assert spread(torch.zeros(0, 2).double(), CAMERA) == 0.0
