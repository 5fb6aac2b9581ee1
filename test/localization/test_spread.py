"""How much of an image matches fill."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixloc_ros.geometry import Camera
from pixloc_ros.localization.spread import evenness, spread

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


SIZE = np.array([640.0, 480.0])


def agreeing(part):
    """Points all over the image, of which those in part (a function of pixels) agree."""
    pixels = np.random.default_rng(0).random((1600, 2)) * SIZE
    return pixels, part(pixels), SIZE


def test_blur_leaves_every_part_alike():
    random = np.random.default_rng(1)
    some = agreeing(lambda pixels: random.random(len(pixels)) < 0.3)
    assert evenness([some]) == pytest.approx(1.0, abs=0.1)


def test_what_agrees_in_less_than_half_of_the_image_is_not_even():
    left = agreeing(lambda pixels: pixels[:, 0] < 0.3 * 640)
    assert evenness([left]) < 0.5
    assert evenness([agreeing(lambda pixels: pixels[:, 0] < 0.25 * 640)]) == 0.0
    # a second view that agrees all over speaks for the first
    whole = agreeing(lambda pixels: np.ones(len(pixels), bool))
    assert evenness([left, whole]) > 0.7


def test_parts_with_few_points_say_nothing():
    corner = np.random.default_rng(0).random((200, 2)) * SIZE / 4
    pixels = np.concatenate([corner, [[600.0, 400.0]] * 7])
    agree = np.arange(len(pixels)) < 200
    assert evenness([(pixels, agree, SIZE)]) == pytest.approx(207 / 200)
    none = np.zeros((0, 2)), np.zeros(0, bool), SIZE
    assert evenness([none]) == evenness([]) == 0.0
    assert evenness([(corner, np.zeros(200, bool), SIZE)]) == 0.0
