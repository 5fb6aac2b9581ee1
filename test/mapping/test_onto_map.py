"""A recording that drifts, some of whose images are found in a map."""

from __future__ import annotations

import pytest
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Pose
from pixloc_ros.left_out import LeftOut
from pixloc_ros.mapping.sources.onto_map import REACH_M, onto_map


def poses(count, drift=0.0, step=0.5):
    """cam_from_map of a straight drive along x, that is off by `drift` metres a metre."""
    made = {}
    for number in range(count):
        along = number * step
        centre = torch.tensor([along, drift * along, 0.0], dtype=torch.float64)
        made[f"{number}.jpg"] = Pose(torch.eye(3, dtype=torch.float64), -centre)
    return made


def moved(truth):
    """The same drive in the frame of another recording."""
    turn = Pose.from_rotvec(
        torch.tensor([0.1, -0.7, 0.4]).double(), torch.tensor([3.0, -2.0, 9.0]).double()
    )
    return {name: pose @ turn for name, pose in truth.items()}


def off(one, other):
    metres, radians = one.distance(other)
    return float(metres), float(radians)


def test_what_is_not_found_follows_from_its_neighbours():
    truth = poses(12)
    found = {name: truth[name] for name in list(truth)[::3]}
    left_out = LeftOut("keyframe")
    placed = onto_map(moved(truth), found, left_out)
    assert list(placed) == list(truth)
    assert not left_out
    for name, pose in placed.items():
        assert off(pose, truth[name]) == pytest.approx((0, 0), abs=1e-6)


def test_drift_is_shared_between_those_that_are_found():
    truth, recorded = poses(9), moved(poses(9, drift=0.04))
    found = {name: truth[name] for name in ("0.jpg", "4.jpg", "8.jpg")}
    placed = onto_map(recorded, found, LeftOut("keyframe"))
    assert off(placed["4.jpg"], truth["4.jpg"]) == pytest.approx((0, 0), abs=1e-9)
    # halfway: what both sides say differs by 8 cm, and they lie on either side
    metres, _ = off(placed["2.jpg"], truth["2.jpg"])
    assert metres < 0.002


def test_what_neighbours_contradict_is_not_trusted():
    truth = poses(8)
    found = dict(truth)
    found["3.jpg"] = truth["6.jpg"]
    placed = onto_map(moved(truth), found, LeftOut("keyframe"))
    assert off(placed["3.jpg"], truth["3.jpg"]) == pytest.approx((0, 0), abs=1e-6)


def test_what_is_too_far_from_a_found_one_is_left_out():
    step = 0.4
    truth = poses(40, step=step)
    found = {name: truth[name] for name in list(truth)[:5]}
    left_out = LeftOut("keyframe")
    placed = onto_map(moved(truth), found, left_out)
    # no whole number of steps is exactly as far as that, where rounding would decide
    assert REACH_M % step == pytest.approx(step / 2)
    assert len(placed) == 5 + int(REACH_M / step)
    assert len(left_out) == len(truth) - len(placed)


def test_another_place():
    truth = poses(6)
    with pytest.raises(InputError, match="0 of 6 keyframes are found in the map"):
        onto_map(moved(truth), {}, LeftOut("keyframe"))
    wild = {"1.jpg": truth["5.jpg"], "4.jpg": truth["0.jpg"]}
    with pytest.raises(InputError, match=r"2 of 6 .* none of them agrees"):
        onto_map(moved(truth), wild, LeftOut("keyframe"))
