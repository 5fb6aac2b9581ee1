"""What is said of aligned poses: which is the best, whether another is as good, and what speaks
for it.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from pixloc_ros.features import read_image
from pixloc_ros.geometry import Pose
from pixloc_ros.localization import Prior, Status
from pixloc_ros.localization.judging import Judge


@pytest.fixture
def aligned(room, localizer, monkeypatch):
    """A judge, the one aligned pose of an image that is right, and the image."""
    seen = []
    choose = Judge.choose

    def watched(judge, solution, queries):
        seen.append((judge, solution, queries))
        return choose(judge, solution, queries)

    monkeypatch.setattr(Judge, "choose", watched)
    frame = room.sequence.frames[2]
    image = read_image(room.sequence.images / frame.name)
    assert localizer.localize(image, frame.camera, Prior(frame.truth)).ok
    monkeypatch.undo()
    judge, solution, queries = seen[0]
    _, best = judge.choose(solution, queries)
    return judge, taken(solution, [best]), queries


def taken(solution, hypotheses):
    """Some of the hypotheses, or one of them several times."""
    system = solution.system
    columns = {f.name: getattr(system, f.name)[hypotheses].clone() for f in fields(system)}
    return replace(
        solution,
        poses=solution.poses[hypotheses],
        before=solution.before[hypotheses],
        failed=solution.failed[hypotheses],
        system=type(system)(**columns),
    )


@pytest.mark.parametrize(("cells", "ambiguous"), [(0.0, False), (4.0, False), (30.0, True)])
def test_another_pose_that_fits_as_well_elsewhere_makes_it_ambiguous(aligned, cells, ambiguous):
    judge, solution, queries = aligned
    both = taken(solution, [0, 0])
    both.system.pixels[1] += torch.tensor([cells, 0.0])
    answer, best = judge.choose(both, queries)
    assert best == 0
    assert (answer.status is Status.REJECTED) == ambiguous
    if ambiguous:
        assert answer.reason == "ambiguous: another pose fits as well, 30 cells away"


@pytest.mark.parametrize(("share", "ambiguous"), [(0.92, True), (0.88, False)])
def test_another_pose_that_fits_less_does_not(aligned, share, ambiguous):
    judge, solution, queries = aligned
    both = taken(solution, [0, 0])
    system = both.system
    system.pixels[1] += torch.tensor([30.0, 0.0])
    inliers = (system.valid[1] & (system.squared[1] < judge.inliers.threshold)).nonzero()[:, 0]
    system.squared[1, inliers[math.ceil(share * len(inliers)) :]] = 10.0
    answer, best = judge.choose(both, queries)
    assert best == 0
    assert (not answer.ok) == ambiguous


def test_the_way_from_the_level_before_is_that_of_the_best_pose(aligned):
    judge, solution, queries = aligned
    both = taken(solution, [0, 0])
    aside = Pose(both.poses.rotation, both.poses.translation + torch.tensor([0.5, 0.0, 0.0]))
    one = replace(both, before=Pose.stack([both.poses[0], aside[1]]))
    assert judge.choose(one, queries)[0].statistics.shift_px == 0.0
    other = replace(both, before=Pose.stack([aside[0], both.poses[1]]))
    assert judge.choose(other, queries)[0].statistics.shift_px > 10.0


def test_the_angle_of_the_view_is_between_the_rays_to_the_points(aligned):
    judge, solution, queries = aligned
    answer, _ = judge.choose(solution, queries)
    system, (observed,) = solution.system, solution.observations
    inlier = (system.squared[0] < judge.inliers.threshold) & system.valid[0]
    here, angles = answer.cam_from_map.inverse().translation, []
    for point, reference in zip(
        observed.points[inlier], observed.reference[inlier.numpy()], strict=True
    ):
        there = judge._map.pose(int(reference)).inverse().translation
        one, two = (point - here).numpy(), (point - there).numpy()
        cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        angles.append(math.degrees(math.acos(cosine)))
    assert 1.0 < np.median(angles) < 50.0
    assert answer.statistics.view_deg == pytest.approx(np.median(angles), rel=0.05)


def test_inliers_are_drawn_as_those_within_the_threshold(aligned):
    judge, solution, queries = aligned
    answer, _ = judge.choose(solution, queries)
    (drawn,) = answer.reprojections
    statistics, visible = answer.statistics, int(solution.system.valid[0].sum())
    shares = drawn.residual
    assert len(shares) == visible == round(statistics.visible * statistics.points)
    assert int((shares < 1).sum()) == round(statistics.inliers * visible)
