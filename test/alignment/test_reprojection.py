"""The pose from points at pixels, and how sure it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pixloc_ros.alignment import SeenPoints, fit_reprojections
from pixloc_ros.geometry import Camera, Pose


@pytest.fixture
def camera():
    return Camera.from_colmap("OPENCV", 640, 480, [500, 500, 320, 240, 0.1, -0.05, 0, 0]).to(
        torch.float64
    )


def points(count=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor([-1.5, -1.0, 3.0]), torch.tensor([1.5, 1.0, 6.0])
    return (low + torch.rand(count, 3, generator=generator) * (high - low)).double()


def near(pose, metres=0.05, radians=0.02):
    generator = torch.Generator().manual_seed(3)
    delta = torch.randn(6, generator=generator).double()
    return pose.perturb(delta * torch.tensor([metres] * 3 + [radians] * 3))


TRUTH = Pose.from_rotvec(
    torch.tensor([0.1, -0.2, 0.05]).double(), torch.tensor([0.2, 0.1, 0.3]).double()
)


def seen(camera, cam_from_rig=None, noise=0.0, wrong=0, seed=0):
    mount = Pose.identity(dtype=torch.float64) if cam_from_rig is None else cam_from_rig
    # in front of the camera, wherever it looks
    where = (mount @ TRUTH).inverse().transform(points(seed=seed))
    pixels, valid = camera.project((mount @ TRUTH).transform(where))
    generator = torch.Generator().manual_seed(seed + 10)
    pixels = pixels + noise * torch.randn(pixels.shape, generator=generator).double()
    pixels[:wrong] += 40 * torch.randn(wrong, 2, generator=generator).double()
    assert bool(valid.all())
    return SeenPoints(where, pixels, torch.ones(len(where)).double(), camera, mount)


def test_exact_pixels_give_the_exact_pose(camera):
    fit = fit_reprojections([seen(camera)], near(TRUTH))
    metres, radians = fit.rig_from_map.distance(TRUTH)
    assert float(metres) < 1e-6
    assert float(radians) < 1e-6


def test_wrong_ones_hardly_matter(camera):
    fit = fit_reprojections([seen(camera, noise=0.3, wrong=100)], near(TRUTH))
    metres, radians = fit.rig_from_map.distance(TRUTH)
    assert float(metres) < 0.003
    assert float(radians) < 0.001
    assert float(fit.weights[:100].median()) < 0.01 < float(fit.weights[100:].median())


def test_a_rig_is_solved_as_one(camera):
    turned = Pose.from_rotvec(torch.tensor([0.0, 2.5, 0.0]).double(), torch.ones(3).double())
    views = [seen(camera, noise=0.3), seen(camera, turned, noise=0.3, seed=1)]
    both = fit_reprojections(views, near(TRUTH))
    alone = fit_reprojections(views[:1], near(TRUTH))
    assert float(both.rig_from_map.distance(TRUTH)[0]) < 0.003
    assert float(both.covariance().diagonal()[:3].sum()) < 0.5 * float(
        alone.covariance().diagonal()[:3].sum()
    )


def test_the_covariance_is_that_of_the_errors(camera):
    errors, claimed = [], []
    for seed in range(40):
        fit = fit_reprojections([seen(camera, noise=0.4, seed=seed)], near(TRUTH))
        away = fit.rig_from_map @ TRUTH.inverse()
        errors.append(away.translation)
        claimed.append(fit.covariance()[:3, :3])
    nees = [float(e @ torch.linalg.solve(c, e)) for e, c in zip(errors, claimed, strict=True)]
    assert 2.0 < sum(nees) / len(nees) < 5.0  # 3 in truth


def test_what_is_not_determined_has_no_covariance(camera):
    view = seen(camera)
    one = replace(view, points=view.points[:1], pixels=view.pixels[:1], share=view.share[:1])
    fit = fit_reprojections([one], TRUTH)
    assert not bool(fit.covariance().isfinite().any())


def test_points_behind_the_camera_say_nothing(camera):
    view = seen(camera)
    behind = replace(view, points=-view.points - 20)
    fit = fit_reprojections([behind], TRUTH)
    assert float(fit.weights.sum()) == 0
    assert bool(fit.rig_from_map.matrix().isfinite().all())


def test_what_is_known_twice_is_not_surer(camera):
    view = seen(camera, noise=0.4)
    twice = SeenPoints(
        torch.cat([view.points, view.points]),
        torch.cat([view.pixels, view.pixels]),
        torch.full((2 * len(view.points),), 0.5).double(),
        camera,
        view.cam_from_rig,
    )
    one, two = (fit_reprojections([v], near(TRUTH)) for v in (view, twice))
    torch.testing.assert_close(one.covariance(), two.covariance(), rtol=1e-6, atol=0)
