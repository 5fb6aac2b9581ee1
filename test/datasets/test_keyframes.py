"""Which images of a drive are mapped."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pixloc_ros.datasets.keyframes import Keyframe, keyframes, sharpness
from pixloc_ros.geometry import Pose

RNG = np.random.default_rng(0)
SHARP = cv2.resize(RNG.integers(0, 255, (60, 80, 3), np.uint8), (320, 240))
BLURRED = cv2.GaussianBlur(SHARP, (0, 0), 6)


def at(x, degrees=0.0, image=SHARP):
    turn = Pose.from_rotvec(torch.tensor([0, np.radians(degrees), 0]), torch.zeros(3).double())
    pose = turn @ Pose.from_quaternion([1, 0, 0, 0], [x, 0, 0]).inverse()
    return Keyframe(x, image, pose)


def test_blur_is_seen_whatever_the_contrast():
    assert sharpness(SHARP) > 3 * sharpness(BLURRED)
    dim = (SHARP * 0.3 + 0.5).astype(np.uint8)
    assert sharpness(dim) == pytest.approx(sharpness(SHARP), rel=0.2)
    assert sharpness(np.zeros((240, 320, 3), np.uint8)) == 0


def test_one_a_step():
    drive = [at(x) for x in np.arange(0, 5.001, 0.1)]
    chosen = [frame.stamp for frame in keyframes(drive, 1.0, 30.0)]
    assert chosen[0] == 0
    steps = np.diff(chosen)
    assert steps.min() > 0.99
    assert steps.max() < 1.61
    assert not [f for f in keyframes([at(0), at(0.5), at(0.9)], 1.0, 30.0)][1:]


def test_turning_counts_too():
    drive = [at(0.0, degrees) for degrees in range(0, 91, 5)]
    assert 3 <= len(list(keyframes(drive, 1.0, 30.0))) <= 4


def test_the_sharpest_of_a_step():
    drive = [at(0.0)]
    drive += [at(x, image=SHARP if abs(x - 1.3) < 0.01 else BLURRED) for x in np.arange(1, 2, 0.1)]
    assert [f.stamp for f in keyframes(drive, 1.0, 30.0)] == pytest.approx([0.0, 1.3])
    assert list(keyframes([], 1.0, 30.0)) == []
