"""What a fix says of the points of the map, and when it says nothing."""

from __future__ import annotations

import numpy as np
import pytest

from pixloc_ros.geometry import Camera
from pixloc_ros.localization import LocalizationResult, Reprojections, Status, View
from pixloc_ros.localization.ageing import judge_points
from pixloc_ros.localization.gating import InlierModel

INLIERS = InlierModel(threshold=1.0, matching=0.8, unrelated=0.1)
CAMERA = Camera.from_colmap("PINHOLE", 640, 480, [500, 500, 320, 240])
VIEW = View(np.zeros((480, 640, 3), np.uint8), CAMERA)


@pytest.fixture
def seen():
    """800 points all over an image, 5 m away, of which eight of ten are found."""
    random = np.random.default_rng(0)
    pixels = random.uniform((0, 0), (640, 480), (800, 2)).astype(np.float32)
    residual = np.where(random.random(800) < 0.8, 0.3, 4.0).astype(np.float32)
    depth = np.full(800, 5.0, np.float32)
    angle, nearer = np.full(800, 0.1, np.float32), np.full(800, 0.8, np.float32)
    seen_by = random.integers(0, 3, 800)
    return Reprojections(pixels, residual, np.arange(800), seen_by, depth, angle, nearer)


def judge(seen):
    result = LocalizationResult(Status.SUCCESS, "", reprojections=(seen,))
    return judge_points(result, [VIEW], INLIERS)


def test_points_are_found_or_missed(seen):
    said = judge(seen)
    assert said.points.tolist() == list(range(800))
    assert (said.found == (seen.residual < 1)).all()
    assert said.references.tolist() == [0, 1, 2]
    assert (said.shown == (seen.residual < 1)).all()
    assert (said.shown_by == seen.references).all()


def test_one_reference_that_shows_it_is_enough(seen):
    seen.points[1] = seen.points[0]
    seen.residual[:2] = 5.0, 0.1
    said = judge(seen)
    assert said.points.tolist() == [0, *range(2, 800)]
    assert said.found[0]


def test_what_lies_behind_a_found_point_is_not_judged(seen):
    behind, before = (np.flatnonzero(side)[:20] for side in (seen.residual > 1, seen.residual < 1))
    seen.pixels[before] = seen.pixels[behind] + 3.0
    seen.depth[behind] = 9.0
    said = judge(seen)
    assert not set(behind) & set(said.points)
    assert len(said.points) == 780
    # and beside what is further away it is judged
    seen.depth[behind] = 2.0
    assert len(judge(seen).points) == 800


def test_what_references_saw_from_elsewhere_is_not_missed(seen):
    missed = np.flatnonzero(seen.residual > 1)
    seen.angle[missed[:20]] = 0.5
    seen.nearer[missed[20:40]] = 3.0
    seen.nearer[missed[40:60]] = 0.3
    said = judge(seen)
    assert not set(missed[:60]) & set(said.points)
    assert set(missed[60:]) < set(said.points)
    found = np.flatnonzero(seen.residual < 1)
    seen.angle[found] = 0.5
    assert judge(seen).found.sum() == len(found)


def test_a_wrong_pose_teaches_nothing_however_long_it_stands(seen):
    random = np.random.default_rng(1)
    for _ in range(600):  # a minute
        seen.residual[:] = np.where(random.random(800) < 0.25, 0.5, 3.0)
        assert judge(seen) is None


def test_what_moved_speaks_neither_for_itself_nor_against_the_rest(seen):
    """The robot takes its pose from a cupboard that was moved and fills the left half."""
    left = seen.pixels[:, 0] < 320
    seen.residual[:] = np.where(left, 0.2, 4.0)
    said = judge(seen)
    assert said is None or said.found.all()
    # taken from the room, the cupboard is missed
    seen.residual[:] = np.where(seen.pixels[:, 0] < 160, 4.0, 0.2)
    said = judge(seen)
    missed = said.points[~said.found]
    assert len(missed) > 100
    assert (seen.pixels[missed, 0] < 160).all()


def test_few_points_judge_none(seen):
    def only(rows):
        return Reprojections(
            seen.pixels[rows],
            np.full(len(rows), 0.1, np.float32),
            np.arange(len(rows)),
            seen.references[rows],
            seen.depth[rows],
            seen.angle[rows],
            seen.nearer[rows],
        )

    assert judge(only(np.arange(25))) is None
    assert judge(only(np.arange(100))) is not None
    # enough of them, but in one part of the image
    corner = np.flatnonzero((seen.pixels < (160, 120)).all(1))
    assert judge(only(np.repeat(corner, 10))) is None
