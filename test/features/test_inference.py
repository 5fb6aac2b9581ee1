"""Made fast, a network says the same; what a GPU does to the image equals OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.features import (
    RUNTIMES,
    Extractor,
    PyramidLevel,
    default_levels,
    extract_pyramid,
    read_image,
)
from pixloc_ros.features.compact import CompactNetwork
from pixloc_ros.features.folding import fold_batch_norms, fold_padding
from pixloc_ros.features.image import to_tensor
from pixloc_ros.features.inference import shrinking
from pixloc_ros.features.pixloc import PixLocVGG16

LEVELS = [PyramidLevel(160, 2), PyramidLevel(320, 2), PyramidLevel(320, 0)]


@pytest.fixture(params=[CompactNetwork, PixLocVGG16], ids=lambda c: c.architecture)
def lively(request):
    """A network whose batch norms do something."""
    network = request.param().eval()
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean += 0.1 * torch.randn(module.num_features, generator=generator)
            module.running_var *= 0.5 + torch.rand(module.num_features, generator=generator)
            module.weight.data *= 0.5 + torch.rand(module.num_features, generator=generator)
    return network


@pytest.fixture
def image(room):
    return read_image(room.sequence.images / room.sequence.frames[1].name)


def test_folding_changes_no_answer(lively):
    images = torch.rand(1, 3, 64, 96)
    before = lively.weights_hash()
    with torch.no_grad():
        wanted, found = lively(images), fold_batch_norms(lively)(images)
    for a, b in zip(wanted.features, found.features, strict=True):
        assert torch.allclose(a, b, atol=1e-4 * float(a.abs().max()))
    assert lively.weights_hash() == before
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fold_batch_norms(lively).modules())


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("architecture", [CompactNetwork, PixLocVGG16])
def test_same_pyramid_as_the_plain_network(network, image, runtime, architecture):
    """Of images, too, whose sides the network pads."""
    if architecture is not CompactNetwork:
        network = architecture().eval()
    image = np.ascontiguousarray(image[: image.shape[0] - 10, : image.shape[1] - 7])
    wanted = extract_pyramid(network, image, LEVELS)
    extract = Extractor(network, LEVELS)
    try:
        extract.choose(*image.shape[1::-1], runtime)
    except InputError as error:
        pytest.skip(str(error))  # not installed, or not for this processor
    found = extract(image)
    most = 0.05 if runtime.endswith("bfloat16") else 1e-3
    for a, b in zip(wanted.levels, found.levels, strict=True):
        assert (a.scale, a.offset) == (b.scale, b.offset)
        assert b.features.dtype == torch.float32
        assert float((a.features - b.features).norm() / a.features.norm()) < most
        assert float((a.confidence - b.confidence).abs().max()) < most
        # sampling reads all channels of a cell: they lie together
        assert b.features.movedim(0, -1).is_contiguous()
        assert torch.allclose(b.features.norm(dim=0), torch.ones(()), atol=1e-4)
    assert float((wanted.descriptor - found.descriptor).norm()) < most


def test_gray_images_and_other_sizes(network, image):
    extract = Extractor(network, LEVELS)
    gray = image[:, :, 0]
    same = np.repeat(gray[:, :, None], 3, 2)
    for part in (slice(None), slice(0, 97)):
        a, b = extract(gray[part]), extract(same[part])
        assert torch.equal(a.levels[-1].features, b.levels[-1].features)


@pytest.mark.parametrize("area", [True, False])
@pytest.mark.parametrize("size", [(320, 240), (301, 211), (160, 97)])
def test_shrinking_as_opencv_does(image, area, size):
    height, width = image.shape[:2]
    planes = torch.from_numpy(image).permute(2, 0, 1).float()
    found = shrinking(height, size[1], area) @ planes @ shrinking(width, size[0], area).T
    mode = cv2.INTER_AREA if area else cv2.INTER_LINEAR
    wanted = cv2.resize(image.astype(np.float32), size, interpolation=mode)
    assert np.abs(found.permute(1, 2, 0).numpy() - wanted).max() < 0.01


def test_the_way_of_a_gpu_is_the_way_of_a_processor(network, image, monkeypatch):
    """All but the graph: from bytes to maps with the operations that a GPU is given."""
    extract = Extractor(network, LEVELS)
    extract._prepare_resizing(image.shape[1], image.shape[0])
    with torch.no_grad():
        there = extract._extract(torch.from_numpy(image))
        here = extract._extract_cpu(image)
    for a, b in zip(there, here, strict=True):
        assert a.shape == b.shape
        assert float((a - b).norm() / b.norm()) < 2e-2
    # half a grey value is all that rounding may differ by
    smaller = to_tensor(image, 160, area=True)
    planes = torch.from_numpy(image).permute(2, 0, 1).float()
    sides = (
        extract._weights[image.shape[0], smaller.shape[1]],
        extract._weights[image.shape[1], smaller.shape[2]],
    )
    ours = (sides[0] @ planes @ sides[1].T).round() / 255
    assert float((ours - smaller).abs().max()) < 1.01 / 255


def test_sizes_that_fall_together_are_computed_once(network, image, monkeypatch):
    """An image is not enlarged: on a small one, what `exact` adds is no second image."""
    levels = default_levels(network, "exact")
    extract, asked = Extractor(network, levels), []
    prepare = extract._prepare

    def counted(runtime, wanted):
        run = prepare(runtime, wanted)

        def answer(shrunk):
            asked.append((tuple(shrunk.shape[2:]), wanted))
            return run(shrunk)

        return answer

    monkeypatch.setattr(extract, "_prepare", counted)
    small, wanted = extract(image), extract_pyramid(network, image, levels)
    assert asked == [((240, 320), (2,)), ((480, 640), (0, 1, 2))]
    for a, b in zip(wanted.levels, small.levels, strict=True):
        assert (a.scale, a.offset) == (b.scale, b.offset)
        assert float((a.features - b.features).norm() / a.features.norm()) < 1e-3
    asked.clear()
    large = extract(cv2.resize(image, (1280, 960)))
    assert asked == [((240, 320), (2,)), ((480, 640), (1, 2)), ((768, 1024), (0,))]
    assert large.levels[-1].features.shape == (32, 384, 512)


@pytest.mark.parametrize("finest", [1, 2])
def test_what_is_not_asked_for_is_not_computed(lively, finest):
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        wanted, found = lively(images), lively(images, finest)
    for level in range(3):
        if level < finest:
            assert found.features[level].numel() == found.confidence[level].numel() == 0
            continue
        assert torch.equal(found.features[level], wanted.features[level])
        assert torch.equal(found.confidence[level], wanted.confidence[level])
    assert torch.equal(found.encoding, wanted.encoding)


def test_folded_padding_changes_no_answer(lively):
    images = torch.rand(1, 3, 70, 99)
    with torch.no_grad():
        wanted, found = lively(images), fold_padding(fold_batch_norms(lively))(images)
    for a, b in zip(wanted.features, found.features, strict=True):
        assert torch.allclose(a, b, atol=1e-4 * float(a.abs().max()))


def test_a_runtime_that_answers_otherwise_is_not_taken(network, monkeypatch):
    """However fast it is: a network with other weights, and maps of another size."""
    stranger, halved = CompactNetwork().eval(), RUNTIMES["torch"]

    def half(original, levels):
        run = halved(original, levels)
        return lambda image: [part[:1] for part in run(image)]

    ways = {
        "torch": RUNTIMES["torch"],
        "stranger": lambda _, levels: RUNTIMES["torch"](stranger, levels),
        "half": half,
    }
    monkeypatch.setattr("pixloc_ros.features.inference.RUNTIMES", ways)
    monkeypatch.setattr("pixloc_ros.fastest.kept_folder", lambda: None)
    choice = Extractor(network, LEVELS).choose(96, 64)
    assert choice.name == "torch"
    assert "cosine" in choice.refused["stranger"] or "off" in choice.refused["stranger"]
    assert "sizes" in choice.refused["half"]
