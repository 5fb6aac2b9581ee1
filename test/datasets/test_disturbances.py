"""People, drops and flare: how much of an image they hide, and that it is told where."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixloc_ros.datasets import disturbances
from pixloc_ros.datasets.disturbances import MOST_COVERED, disturb


@pytest.fixture
def views():
    """Twelve images of one colour each."""
    return torch.linspace(0.2, 0.8, 12)[:, None, None, None].expand(12, 3, 48, 64)


def only(monkeypatch, **shares):
    for name in ("FIGURES", "DROPS", "FLARE"):
        monkeypatch.setattr(disturbances, name, shares.get(name, 0.0))


def test_most_images_are_left_alone_and_the_seed_decides(views):
    first, hidden = disturb(views, np.random.default_rng(3))
    again, _ = disturb(views, np.random.default_rng(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, disturb(views, np.random.default_rng(4))[0])
    same = (first == views).flatten(1).all(1)
    assert 3 <= int(same.sum()) < 12
    assert not hidden[same].any()


def test_people_cover_at_most_what_is_said_and_are_told(views, monkeypatch):
    only(monkeypatch, FIGURES=1.0)
    covered = []
    for seed in range(8):
        images, hidden = disturb(views, np.random.default_rng(seed))
        changed = (images - views).abs().amax(1) > 1e-6
        assert not (changed & ~hidden).any()
        assert changed[hidden].float().mean() > 0.9  # a neighbour may have the same colour
        covered += hidden.float().mean((1, 2)).tolist()
    assert max(covered) <= MOST_COVERED
    assert max(covered) > 0.5 > 0.2 > min(covered)


def test_drops_hide_a_little_everywhere(views, monkeypatch):
    only(monkeypatch, DROPS=1.0)
    pattern = torch.arange(64).remainder(2).float().expand(12, 3, 48, 64)
    images, hidden = disturb(pattern, np.random.default_rng(0))
    detail = (images[..., 1:] - images[..., :-1]).abs().mean(1)
    inner = hidden[..., 1:] & hidden[..., :-1]
    assert detail[inner].mean() < 0.5 * detail[~inner].mean()
    assert 0.01 < float(hidden.float().mean()) < 0.8


def test_flare_only_adds_light_and_takes_contrast(views, monkeypatch):
    only(monkeypatch, FLARE=1.0)
    pattern = torch.arange(64).remainder(2).float().expand(12, 3, 48, 64)
    images, hidden = disturb(pattern, np.random.default_rng(0))
    assert not hidden.any()
    assert ((images >= 0) & (images <= 1)).all()
    assert images.mean() > pattern.mean()
    assert (images.std((1, 2, 3)) < pattern.std((1, 2, 3))).all()
