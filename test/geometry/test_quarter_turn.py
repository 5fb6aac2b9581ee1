"""A camera of an image that was turned sees what the other saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixloc_ros.geometry import QUARTER_TURN, Camera

CAMERAS = {
    "SIMPLE_RADIAL": [500, 300, 250, -0.1],
    "OPENCV": [500, 480, 330, 250, 0.1, -0.05, 0.01, -0.02],
    "FULL_OPENCV": [500, 480, 330, 250, 0.1, -0.05, 0.01, -0.02, 0.01, 0.02, 0.01, 0.003],
    "OPENCV_FISHEYE": [300, 310, 330, 250, 0.01, -0.01, 0.002, 0.001],
    "THIN_PRISM_FISHEYE": [300, 310, 330, 250, 0.01, -0.01, 0.01, 0.02, 0.002, 0.001, 0.03, -0.02],
}


def points():
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor([-1.0, -0.7, 2.0]), torch.tensor([1.0, 0.7, 4.0])
    return (low + torch.rand(200, 3, generator=generator) * (high - low)).double()


@pytest.mark.parametrize("model", CAMERAS)
def test_pixels_turn_with_the_image(model):
    camera = Camera.from_colmap(model, 640, 480, CAMERAS[model])
    turned = camera.quarter_turn()
    assert turned.size.tolist() == [480, 640]
    before, valid = camera.project(points())
    after, also = turned.project(points() @ QUARTER_TURN.double().T)
    assert int(valid.sum()) > 50
    assert torch.equal(valid, also)
    x, y = before.unbind(-1)
    torch.testing.assert_close(after, torch.stack([y, 640 - x], -1), atol=1e-9, rtol=0)


def test_it_is_the_turn_of_numpy():
    image = np.zeros((480, 640), np.uint8)
    image[100, 40] = 1  # its centre is the pixel (40.5, 100.5)
    (row,), (column,) = np.nonzero(np.rot90(image))
    assert (column + 0.5, row + 0.5) == (100.5, 640 - 40.5)


def test_a_tilted_sensor_turns_too():
    numbers = {"k1": 0.05, "t00": 0.01, "t01": 0.02, "t10": -0.01, "t11": 0.03}
    numbers |= {"t20": 0.02, "t21": -0.04}
    camera = Camera.from_colmap("PINHOLE", 640, 480, [500, 480, 320, 240])
    camera = Camera.of(camera.lens, (640, 480), (500, 480), (320, 240), numbers)
    before, _ = camera.project(points())
    after, _ = camera.quarter_turn().project(points() @ QUARTER_TURN.double().T)
    x, y = before.unbind(-1)
    torch.testing.assert_close(after, torch.stack([y, 640 - x], -1), atol=1e-9, rtol=0)


def test_four_turns_are_none():
    camera = Camera.from_colmap("OPENCV", 640, 480, CAMERAS["OPENCV"])
    around = camera
    for _ in range(4):
        around = around.quarter_turn()
    torch.testing.assert_close(around.numbers(), camera.numbers())
