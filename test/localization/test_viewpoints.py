"""Which images are of one place."""

from __future__ import annotations

import math

import pytest
import torch

from pixloc_ros.geometry import Pose
from pixloc_ros.localization.viewpoints import APART_DEG, APART_M, Viewpoints


def looking(x, yaw_deg=0.0):
    """A camera that stands at x (metres) and is turned."""
    moved = torch.tensor([x, 0, 0, 0, math.radians(yaw_deg), 0], dtype=torch.float64)
    return Pose.exp(moved).inverse()


@pytest.mark.parametrize(
    ("pose", "new"),
    [
        (looking(0.0), False),
        (looking(0.9 * APART_M, 0.9 * APART_DEG), False),
        (looking(1.1 * APART_M), True),
        (looking(0.0, 1.1 * APART_DEG), True),
    ],
)
def test_places_are_apart_in_metres_or_degrees(pose, new):
    places = Viewpoints([looking(0.0)])
    assert places.enter(pose) is new
    assert not places.enter(pose)


def test_what_is_near_is_found_whatever_lies_around():
    """As among all that was ever looked from."""
    generator = torch.Generator().manual_seed(0)
    places, known = Viewpoints(), []
    for _ in range(300):
        numbers = torch.rand(6, generator=generator, dtype=torch.float64) * 4 - 2
        pose = Pose.exp(numbers * torch.tensor([1, 1, 0.5, 0.05, 0.05, 0.3])).inverse()
        alike = [pose.distance(other) for other in known]
        old = any(m < APART_M and math.degrees(r) < APART_DEG for m, r in alike)
        assert places.enter(pose) is not old
        if not old:
            known.append(pose)
    assert 50 < len(known) < 280


def test_a_place_is_new_again_after_its_rest():
    places = Viewpoints(rest=60.0)
    assert [places.enter(looking(0.0), stamp) for stamp in (100, 159, 161, 200)] == [
        *(True, False, True, False)
    ]
    # staying there does not make it newer, and a clock that is set back does not keep it for ever
    assert places.enter(looking(0.0), 0.0)
