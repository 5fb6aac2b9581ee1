from __future__ import annotations

import pytest
import torch

from pixloc_ros.features import new_network
from pixloc_ros.features.compact import CompactNetwork
from pixloc_ros.features.gnnet import GNNet
from pixloc_ros.features.pixloc import PixLocVGG16, PixLocVGG19


@pytest.mark.parametrize("kind", [CompactNetwork, GNNet, PixLocVGG16, PixLocVGG19])
@pytest.mark.parametrize("size", [(64, 96), (75, 101)])
def test_shapes_and_ranges(kind, size):
    network = kind().eval()
    with torch.no_grad():
        output = network(torch.rand(2, 3, *size))
    for level, (stride, channels) in enumerate(zip(kind.strides, kind.channels, strict=True)):
        features, confidence = output.features[level], output.confidence[level]
        assert features.shape[:2] == (2, channels)
        assert confidence.shape == (2, *features.shape[2:])
        for cells, pixels in zip(features.shape[2:], size, strict=True):
            assert pixels // 16 * 16 <= cells * stride <= -(-pixels // 16) * 16
        assert ((confidence > 0) & (confidence <= 1)).all()
        assert network.damping_parameters(level).shape == (6,)


def test_parameter_counts():
    count = lambda network: sum(p.numel() for p in network.parameters())  # noqa: E731
    assert count(CompactNetwork()) < 1_500_000
    assert count(PixLocVGG19()) == pytest.approx(21.0e6, rel=0.01)
    assert len(PixLocVGG19().state_dict()) == 71
    assert len(PixLocVGG16().state_dict()) == 65


def test_pass_through_is_the_standardized_encoder():
    network = new_network("compact")
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        output, taps = network(image), network.encoder(image)
    for level, tap in ((0, 0), (1, 1), (2, 3)):
        mean, deviation = network.encoder.tap_statistics(tap)
        expected = (taps[tap] - mean[:, None, None]) / deviation[:, None, None]
        found = output.features[level][:, : expected.shape[1]]
        within = expected.abs() < 3.9  # what lies further out is clipped
        assert within.float().mean() > 0.95
        assert torch.allclose(found[within], expected[within], atol=1e-3)
        assert (output.features[level][:, expected.shape[1] :].abs() < 1e-5).all()


def test_a_cell_looks_at_the_pixels_that_stride_and_offset_say():
    """The window of the image that moves a cell is centred where the level claims."""
    network = new_network("compact")  # every level is its encoder tap
    image = torch.rand(1, 3, 640, 640).requires_grad_()
    output = network(image)
    for level, (stride, offset) in enumerate(zip(network.strides, network.offsets, strict=True)):
        cell = output.features[level].shape[-1] // 2
        value = output.features[level][0, :, cell, cell].abs().sum()
        (gradient,) = torch.autograd.grad(value, image, retain_graph=True)
        touched = torch.nonzero(gradient.abs().sum((0, 1)))
        middle = (touched.min(0).values + touched.max(0).values + 1) / 2
        expected = stride * (cell + 0.5) + offset
        # a rectifier that is off hides the rim of the window
        assert (middle - expected).abs().max() <= 0.1 * stride, (level, middle, expected)


def test_hash_tells_weights_apart(network):
    other = CompactNetwork()
    other.load_state_dict(network.state_dict())
    assert other.weights_hash() == network.weights_hash()
    with torch.no_grad():
        other.damping[0, 0] += 1e-3
    assert other.weights_hash() != network.weights_hash()


def test_too_small_images_are_refused():
    with pytest.raises(ValueError, match="at least 16"):
        PixLocVGG16()(torch.zeros(1, 3, 8, 100))
