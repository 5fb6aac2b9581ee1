from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pixloc_ros.features import (
    ImageError,
    PyramidLevel,
    check_image,
    default_levels,
    extract_pyramid,
    read_image,
)
from pixloc_ros.features.image import resized_shape, to_tensor
from pixloc_ros.geometry import Camera


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such image"),
        (lambda p: p.write_bytes(b""), "not a readable image"),
        (lambda p: p.write_bytes(b"\xff\xd8\xff\xe0 not really"), "not a readable image"),
        (lambda p: p.mkdir(), "no such image"),
    ],
)
def test_unreadable_files(tmp_path, make, message):
    path = tmp_path / "image.jpg"
    make(path)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_reads_rgb(tmp_path):
    path = tmp_path / "red.png"
    image = np.zeros((40, 50, 3), np.uint8)
    image[..., 2] = 200  # OpenCV writes BGR
    cv2.imwrite(str(path), image)
    assert (read_image(path)[..., 0] == 200).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 0, 3), np.uint8), "0 x 0"),
        (np.zeros((10, 400, 3), np.uint8), "at least 32"),
        (np.zeros((100, 100, 3), np.float32), "uint8"),
        (np.zeros((100, 100, 4), np.uint8), "shape"),
        (np.zeros((1, 100, 100, 3), np.uint8), "shape"),
        (np.broadcast_to(np.uint8(0), (40_000, 40_000, 3)), "more than"),
        (None, "uint8"),
    ],
)
def test_impossible_arrays(image, message):
    with pytest.raises(ImageError, match=message):
        check_image(image)


def test_resizing_never_enlarges():
    assert resized_shape(640, 480, 320) == (320, 240)
    assert resized_shape(480, 640, 320) == (240, 320)
    assert resized_shape(200, 100, 320) == (200, 100)
    assert resized_shape(10_000, 1, 100) == (100, 1)


def test_area_resize_averages():
    checker = np.indices((64, 64)).sum(0) % 2 * 255
    image = np.repeat(checker[..., None], 3, 2).astype(np.uint8)
    assert torch.allclose(to_tensor(image, 32, True), torch.full((3, 32, 32), 0.5), atol=0.01)


def test_pyramid_of_the_default_network(network):
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    levels = default_levels(network)
    pyramid = extract_pyramid(network, image, levels)
    assert len(pyramid.levels) == len(levels)
    camera = Camera.from_colmap("PINHOLE", 640, 480, [500, 500, 320, 240])
    for level, maps in zip(levels, pyramid.levels, strict=True):
        norms = maps.features.norm(dim=0)
        assert torch.allclose(norms, torch.ones_like(norms), atol=1e-4)
        # a ray through the middle of the image hits the middle of the map, but for the offset
        pixels, _ = maps.camera(camera).project(torch.tensor([[0, 0, 1.0]]).double())
        stride = network.strides[level.network_level]
        expected = level.image_size / stride / 2 - network.offsets[level.network_level] / stride
        assert float(pixels[0, 0]) == pytest.approx(expected)
    assert pyramid.descriptor.norm() == pytest.approx(1.0, abs=1e-5)


def test_gray_images_equal_their_rgb(network):
    gray = np.random.default_rng(1).integers(0, 255, (64, 96), np.uint8)
    levels = [PyramidLevel(96, 1)]
    one = extract_pyramid(network, gray, levels)
    three = extract_pyramid(network, np.repeat(gray[..., None], 3, 2), levels)
    assert torch.equal(one.levels[0].features, three.levels[0].features)
