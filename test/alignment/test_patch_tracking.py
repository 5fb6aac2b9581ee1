"""Patches are found where they are, to a part of a pixel, by every implementation alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import fourier_shift

from pixloc_ros.alignment import patch_tracking
from pixloc_ros.alignment.patch_tracking import REACH, track_patches, track_reference
from pixloc_ros.features import PATCH_SIDE, cut_patches


def textured(width=160, height=120, seed=0):
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return 128 + 40 * smooth / smooth.std()


@pytest.fixture
def places():
    generator = torch.Generator().manual_seed(0)
    return 30 + torch.rand(200, 2, generator=generator) * torch.tensor([100.0, 60.0])


def identity(count):
    return torch.eye(2).expand(count, 2, 2).contiguous()


def moved(image, affine, to):
    """What the image looks like when places x are shown at affine x + to."""
    matrix = np.c_[affine, to + affine @ [0.5, 0.5] - 0.5]  # OpenCV counts from pixel centres
    return cv2.warpAffine(image, matrix, image.shape[::-1], flags=cv2.INTER_CUBIC)


def test_a_patch_is_found_to_a_part_of_a_pixel(places):
    image = textured()
    # OpenCV would shift by whole thirty-seconds of a pixel
    shown = np.fft.ifft2(fourier_shift(np.fft.fft2(image), (-0.6, 1.3))).real
    tracks = track_patches(
        torch.from_numpy(shown).float(), cut_patches(image, places), identity(len(places)), places
    )
    away = (tracks.pixels - places - torch.tensor([1.3, -0.6])).norm(dim=-1)
    assert float(tracks.similarity.median()) > 0.98
    assert float(away.median()) < 0.03


def test_the_affine_map_says_how_it_looks_from_there(places):
    """Half a turn and larger by a quarter: not to be found without knowing."""
    image = textured()
    affine = 1.25 * np.array([[-1.0, 0.0], [0.0, -1.0]])
    to = np.array([170.0, 130.0])
    shown = torch.from_numpy(moved(image, affine, to))
    turn = torch.from_numpy(affine).float()
    expected = places @ turn.T + torch.from_numpy(to).float()
    patches = cut_patches(image, places)
    start = expected + 0.7
    known = track_patches(shown, patches, turn.expand(len(places), 2, 2).contiguous(), start)
    inside = known.similarity > 0
    assert int(inside.sum()) > 50
    away = (known.pixels - expected)[inside].norm(dim=-1)
    assert float(away.median()) < 0.05
    unknown = track_patches(shown, patches, identity(len(places)), start)
    assert float(unknown.similarity.median()) < 0.7


def test_light_does_not_matter(places):
    image = textured()
    darker = torch.from_numpy(10 + 0.4 * image)
    tracks = track_patches(darker, cut_patches(image, places), identity(len(places)), places)
    assert float((tracks.pixels - places).norm(dim=-1).max()) < 0.05


@pytest.mark.parametrize("trouble", ["flat", "beyond the border", "too far", "dark"])
def test_what_is_not_there_is_not_found(places, trouble):
    image = textured()
    patches, shown, start = cut_patches(image, places), torch.from_numpy(image), places
    if trouble == "flat":
        patches = torch.full_like(patches, 90)
    elif trouble == "beyond the border":
        start = places - 200
    elif trouble == "too far":
        start = places + torch.tensor([3 * REACH, 0.0])
    else:
        shown = torch.zeros_like(shown)
    tracks = track_patches(shown, patches, identity(len(places)), start)
    wrong = (tracks.similarity > 0.9) if trouble == "too far" else (tracks.similarity != -1)
    assert int(wrong.sum()) <= (2 if trouble == "too far" else 0)
    assert bool(tracks.pixels.isfinite().all())


def test_the_kernel_equals_the_reference(places):
    image = textured()
    shown = torch.from_numpy(moved(image, np.array([[1.1, 0.2], [-0.1, 0.9]]), np.array([2, 9.0])))
    generator = torch.Generator().manual_seed(1)
    affine = identity(len(places)) + 0.1 * torch.randn(len(places), 2, 2, generator=generator)
    start = places + torch.randn(len(places), 2, generator=generator)
    patches = cut_patches(image, places)
    patches[::7] = 50
    one = track_patches(shown, patches, affine, start)
    other = track_reference(shown, patches, affine, start)
    assert torch.equal(one.similarity == -1, other.similarity == -1)
    assert 20 < int((one.similarity == -1).sum()) < 180
    torch.testing.assert_close(one.pixels, other.pixels, atol=2e-3, rtol=0)
    torch.testing.assert_close(one.similarity, other.similarity, atol=1e-3, rtol=0)


def test_without_numba_it_is_the_reference(places, monkeypatch):
    monkeypatch.setattr(patch_tracking, "fused", lambda device: None)
    image = textured()
    tracks = track_patches(
        torch.from_numpy(image), cut_patches(image, places), identity(len(places)), places
    )
    assert float(tracks.similarity.min()) > 0.99


def test_patches_at_the_border_are_zero():
    image = textured()
    places = torch.tensor([[80.0, 60.0], [4.9, 60.0], [4.0, 60.0], [159.0, 60.0]])
    patches = cut_patches(image, places)
    assert patches.shape == (4, PATCH_SIDE, PATCH_SIDE)
    assert [bool(p.any()) for p in patches] == [True, True, False, False]
