"""Poses from matches alone: right where they agree, both where a place looks like another."""

from __future__ import annotations

import pytest
import torch

from pixloc_ros.features import extract_pyramid, read_image
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization.matching import (
    AXES,
    MIN_INLIERS,
    MatchedView,
    Matcher,
    Matches,
    mutual_best,
    poses_of_matches,
    rival,
)
from pixloc_ros.localization.products import PRODUCTS


def alone(matches, camera):
    """A robot with one camera."""
    return MatchedView(matches, camera, Pose.identity(dtype=torch.float64))


@pytest.fixture
def matched(room, localizer):
    frame = room.sequence.frames[4]
    image = read_image(room.sequence.images / frame.name)
    pyramid = extract_pyramid(localizer.network, image, localizer.map.header.levels)
    references, _ = localizer.candidates.index.search(localizer.map.describe(pyramid), 10)
    return (
        frame,
        Matcher(localizer.store, len(localizer.map), 4000).match(references, pyramid),
        pyramid,
        references,
    )


def test_most_matches_are_where_the_points_are(matched):
    frame, matches, _, _ = matched
    assert len(matches.points) > 100
    pixels, valid = frame.camera.project(frame.truth.transform(matches.points))
    right = ((pixels - matches.pixels).norm(dim=-1) < 12) & valid
    assert float(right.float().mean()) > 0.5


def test_the_limit_keeps_what_most_references_see(localizer, matched):
    _, _, pyramid, references = matched
    few = Matcher(localizer.store, len(localizer.map), 50).match(references, pyramid)
    assert 0 < len(few.points) <= 50
    counts = torch.cat([localizer.map.reference(r).points for r in references]).bincount()
    least = counts.sort(descending=True).values[49]
    where = (localizer.map.points[:, None] - few.points).norm(dim=-1).argmin(0)
    assert (counts[where] >= least).all()


def test_the_pose_of_the_matches_is_near_the_truth(matched):
    frame, matches, _, _ = matched
    poses, inliers = poses_of_matches([alone(matches, frame.camera)], 2)
    metres, radians = poses[0].distance(frame.truth)
    assert float(metres) < 0.1
    assert float(torch.rad2deg(radians)) < 2.0
    assert inliers == sorted(inliers, reverse=True)
    again, _ = poses_of_matches([alone(matches, frame.camera)], 2)
    assert torch.equal(again[0].translation, poses[0].translation)


def scene(count: int, noise: int = 0) -> tuple[Matches, Camera, Pose]:
    generator = torch.Generator().manual_seed(1)
    camera = Camera.from_colmap("OPENCV", 640, 480, [500, 500, 320, 240, -0.2, 0.05, 0, 0])
    points = torch.rand(count, 3, generator=generator).double() * 2 + torch.tensor([-1, -1, 3.0])
    pose = Pose.from_rotvec(
        torch.tensor([0.05, -0.1, 0.02]).double(), torch.full((3,), 0.1).double()
    )
    pixels, _ = camera.project(pose.transform(points))
    pixels[:noise] = torch.rand(noise, 2, generator=generator).double() * 400
    return Matches(points, pixels), camera, pose


def test_matches_agree_with_a_pose_within_reach():
    matches, camera, pose = scene(100, noise=30)
    assert 70 <= int(matches.near(pose, camera).sum()) <= 74
    turned = pose.perturb(torch.tensor([0, 0, 0, 0, 0.05, 0]).double())  # some 25 pixels
    assert int(matches.near(turned, camera).sum()) < 10
    behind = pose.perturb(torch.tensor([0, 0, -50.0, 0, 0, 0]).double())
    assert int(matches.near(behind, camera).sum()) == 0


@pytest.mark.parametrize("far", [0.0, 5e6])
def test_distorted_cameras_and_distant_origins(far):
    matches, camera, truth = scene(80, noise=30)
    origin = torch.tensor([far, -far, far]).double()
    moved = Matches(matches.points + origin, matches.pixels)
    (pose,), (inliers,) = poses_of_matches([alone(moved, camera)], 1)
    assert 50 <= inliers <= 56
    back = Pose(pose.rotation, pose.translation + (pose.rotation @ origin[:, None]).squeeze(-1))
    metres, radians = back.distance(truth)
    assert float(metres) < 1e-3
    assert float(radians) < 1e-4


def test_both_of_two_places_that_look_alike_are_found():
    """The same picture at two places of the map: the query's matches are split between them."""
    matches, camera, truth = scene(80)
    apart = torch.tensor([10.0, 0.0, 0.0]).double()
    points = matches.points.clone()
    points[::2] += apart
    both = Matches(points, matches.pixels)
    poses, inliers = poses_of_matches([alone(both, camera)], 2)
    assert inliers == [40, 40]
    centres = torch.stack([p.inverse().translation for p in poses])
    expected = truth.inverse().translation
    assert float((centres - expected).norm(dim=-1).min()) < 1e-3
    assert float((centres - expected - apart).norm(dim=-1).min()) < 1e-3


def split(share, away=10.0, count=200):
    """Matches of which a share says that the camera stands elsewhere."""
    matches, camera, _ = scene(count)
    points = matches.points.clone()
    points[: round(share * count), 0] += away
    view = alone(Matches(points, matches.pixels), camera)
    return view, *poses_of_matches([view], 2)


@pytest.mark.parametrize(
    ("share", "away", "ambiguous"),
    [(0.4, 10.0, True), (0.25, 10.0, False), (0.4, 0.01, False), (0.0, 10.0, False)],
)
def test_a_second_pose_that_many_matches_agree_on_makes_the_first_ambiguous(
    share, away, ambiguous
):
    view, poses, agreeing = split(share, away)
    reason = rival([view], poses, agreeing)
    assert bool(reason) == ambiguous
    if ambiguous:
        assert reason == (
            "ambiguous: 120 matches agree with one pose, 80 others with another, elsewhere"
        )


def test_a_few_matches_are_no_rival():
    view, poses, agreeing = split(0.4, count=60)
    assert agreeing == [36, 24]
    assert rival([view], poses, agreeing) == ""


def test_too_few_or_contradicting_matches_give_no_pose():
    few, camera, _ = scene(MIN_INLIERS - 1)
    assert poses_of_matches([alone(few, camera)], 2) == ([], [])
    wrong, camera, _ = scene(60, noise=60)
    assert poses_of_matches([alone(wrong, camera)], 2) == ([], [])
    none = Matches(torch.zeros(0, 3).double(), torch.zeros(0, 2).double())
    assert poses_of_matches([alone(none, camera)], 2) == ([], [])


@pytest.mark.parametrize("product", PRODUCTS)
def test_mutual_best_in_any_precision(product):
    """As the definition says, up to what the lower precision cannot tell apart."""
    generator = torch.Generator().manual_seed(1)
    cells = torch.nn.functional.normalize(torch.randn(300, 64, generator=generator), dim=-1)
    noise = 0.1 * torch.randn(200, 64, generator=generator)
    known = torch.nn.functional.normalize(cells[:200] + noise, dim=-1)
    known[7] = known[3]  # a tie: one of them at most is matched
    rows, columns = mutual_best(known, cells, product=PRODUCTS[product])
    scores = known @ cells.T
    wanted = [
        (i, int(j)) for i, j in enumerate(scores.argmax(1)) if int(scores[:, j].argmax()) == i
    ]
    found = list(zip(rows.tolist(), columns.tolist(), strict=True))
    alike = len(set(found) & set(wanted)) / len(wanted)
    assert alike > (0.999 if product == "single" else 0.98)
    assert len({i for i, _ in found}) == len(found)
    unrelated = torch.nn.functional.normalize(torch.randn(50, 64, generator=generator), dim=-1)
    few, _ = mutual_best(unrelated, cells)
    assert len(few) < 50


def test_along_few_axes_almost_the_same_is_matched(localizer, matched):
    _, few, pyramid, references = matched
    matcher = Matcher(localizer.store, len(localizer.map), 4000)
    assert matcher._axes[len(pyramid.levels) - 1].shape[1] == AXES
    matcher._axes = [None] * len(matcher._axes)
    every = matcher.match(references, pyramid)
    where = (every.points[:, None] - few.points).norm(dim=-1).min(0)
    same = where.values == 0
    assert float(same.double().mean()) > 0.95
    apart = (every.pixels[where.indices] - few.pixels).norm(dim=-1)[same]
    assert float((apart < 0.5).double().mean()) > 0.98


def rig_scene(count: int, noise: int, apart: float) -> tuple[list[MatchedView], Pose]:
    """Two unlike cameras, the second turned by 60 degrees and `apart` metres aside."""
    first, camera, truth = scene(count, noise)
    mount = Pose.from_rotvec(
        torch.tensor([0.0, 1.0, 0.0]).double(), torch.tensor([apart, 0.0, 0.0]).double()
    )
    generator = torch.Generator().manual_seed(2)
    large = Camera.from_colmap("PINHOLE", 1280, 960, [900, 900, 640, 480])
    rays, _ = large.unproject(torch.rand(count, 2, generator=generator).double() * 900 + 30)
    points = (mount @ truth).inverse().transform(rays * 4)
    pixels, _ = large.project((mount @ truth).transform(points))
    pixels[:noise] = torch.rand(noise, 2, generator=generator).double() * 900
    second = MatchedView(Matches(points, pixels), large, mount)
    return [alone(first, camera), second], truth


@pytest.mark.parametrize("apart", [0.3, 0.0])
def test_cameras_of_a_rig_are_solved_together(apart):
    """What is too little in each of them is enough in both."""
    views, truth = rig_scene(MIN_INLIERS - 2, 0, apart)
    assert all(poses_of_matches([view], 1) == ([], []) for view in views)
    (pose,), (inliers,) = poses_of_matches(views, 1)
    assert inliers == 2 * (MIN_INLIERS - 2)
    metres, radians = pose.distance(truth)
    assert float(metres) < 1e-3
    assert float(radians) < 1e-4


def test_a_camera_of_a_rig_that_matches_nothing_does_no_harm():
    views, truth = rig_scene(60, 0, 0.3)
    blind, _ = rig_scene(60, 60, 0.3)
    for together in ([views[0], blind[1]], [blind[0], views[1]]):
        poses, inliers = poses_of_matches(together, 2)
        assert 58 <= inliers[0] <= 64
        metres, _ = poses[0].distance(truth)
        assert float(metres) < 0.05
