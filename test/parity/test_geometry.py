"""Geometry against numbers recorded from the original implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixloc_ros.geometry import Camera, FeatureTable, Pose, RobustKernel, average_pose, huber
from pixloc_ros.geometry.so3 import matrix_to_quaternion, quaternion_to_matrix

HALF = 0.5  # the original puts the centre of the first pixel at 0


@pytest.fixture(scope="module")
def unit(parity):
    return {
        k: torch.from_numpy(np.asarray(v))
        for k, v in np.load(parity / "unit_fixtures.npz").items()
    }


def pose12(data):
    return Pose(data[..., :9].reshape(*data.shape[:-1], 3, 3), data[..., 9:])


CAMERAS = [
    "SIMPLE_PINHOLE",
    "PINHOLE",
    "SIMPLE_RADIAL",
    "SIMPLE_RADIAL_pos",
    "RADIAL",
    "RADIAL_pos",
    "OPENCV",
]


def camera_of(unit, name):
    data = unit[f"cam_{name}_data"]
    return Camera.from_colmap(
        name.removesuffix("_pos"), *data[:2].tolist(), unit[f"cam_{name}_colmap"].tolist()
    )


def original_layout(camera):
    return torch.cat([camera.size, camera.focal, camera.centre - HALF, camera.distortion])


@pytest.mark.parametrize("name", CAMERAS)
def test_camera(unit, name):
    camera, points = camera_of(unit, name), unit["cam_p3d"]
    pixels, jacobian, valid = camera.project_with_jacobian(points)
    theirs = unit[f"cam_{name}_valid"]
    in_front = points[:, 2] > 1e-3
    assert torch.allclose(
        pixels[in_front] - HALF, unit[f"cam_{name}_p2d"][in_front], atol=1e-8, rtol=1e-9
    )
    assert torch.allclose(
        jacobian[in_front], unit[f"cam_{name}_J"][in_front], atol=1e-8, rtol=1e-9
    )
    # the original bounds the distortion by another root; where its bound is looser, ours
    # refuses points that the lens model folds back. Everything else agrees.
    ours_only, theirs_only = valid & ~theirs, theirs & ~valid
    assert not (theirs_only & (unit[f"cam_{name}_norm"].pow(2).sum(-1) < camera.limit)).any()
    if name in ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL_pos", "RADIAL_pos"):
        assert not theirs_only.any()
    for i in torch.nonzero(ours_only):  # the original also bounds lenses that never fold
        assert unit[f"cam_{name}_norm"][i].pow(2).sum() < camera.limit
        assert not unit[f"cam_{name}_dist_valid"][i]


@pytest.mark.parametrize("name", CAMERAS)
def test_camera_scale_and_crop(unit, name):
    camera = camera_of(unit, name)
    n = unit[f"cam_{name}_data"].numel()
    for suffix, changed in [
        ("scaled_0.25", camera.scale(0.25)),
        ("scaled_.5_.4", camera.scale((0.5, 0.4))),
        ("crop_11_7_200_100", camera.crop(11, 7, 200, 100)),
    ]:
        assert torch.allclose(
            original_layout(changed)[:n], unit[f"cam_{name}_{suffix}"], atol=1e-9
        )


def test_pose(unit):
    pose = Pose.from_rotvec(unit["aa_w"], unit["aa_t"])
    flat = lambda p: torch.cat([p.rotation.flatten(-2), p.translation], -1)  # noqa: E731
    assert torch.allclose(flat(pose), unit["aa_data"], atol=1e-9)
    assert torch.allclose(flat(pose.inverse()), unit["pose_inv"], atol=1e-9)
    flipped = pose[torch.arange(19, -1, -1)]
    assert torch.allclose(flat(pose @ flipped), unit["pose_compose_T_Tflip"], atol=1e-9)
    angle = torch.rad2deg(pose.distance(Pose.identity(20, dtype=torch.float64))[1])
    assert torch.allclose(angle, unit["pose_mag_deg"], atol=1e-5)
    assert torch.allclose(pose.translation.norm(dim=-1), unit["pose_mag_m"], atol=1e-9)
    moved = pose[3].transform(unit["cam_p3d"])
    assert torch.allclose(moved, unit["pose_transform_T3"], atol=1e-9)
    assert torch.allclose(pose[3].transform_jacobian(moved), unit["pose_J_T3"], atol=1e-9)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_interpolation(unit, mode):
    table, points = FeatureTable(unit["interp_tensor"]), unit["interp_pts"] + HALF
    value, gradient = table.sample_with_gradient(points, mode)
    mask = unit[f"interp_{mode}_mask_pad2"]
    # the wider support of the cubic takes one more cell of padding
    assert torch.equal(table.inside(points, 2 if mode == "linear" else 3), mask)
    assert torch.allclose(value[mask], unit[f"interp_{mode}_val"][mask], atol=2e-5)
    assert torch.allclose(
        gradient[mask].transpose(-1, -2), unit[f"interp_{mode}_grad"][mask], atol=2e-5
    )


@pytest.mark.parametrize("pad", [0, 1, 3, 4])
def test_interpolation_mask(unit, pad):
    table = FeatureTable(unit["interp_tensor"])
    assert torch.equal(table.inside(unit["interp_pts"] + HALF, pad), unit[f"interp_mask_pad{pad}"])


def kernels():
    yield "squared", RobustKernel(2.0, 1.0)
    yield "huber", huber(1.0)
    for alpha in (-2.0, 0.0, 0.5, 1.0, 2.0):
        for scale in (1.0, 0.1):
            yield f"barron_a{alpha}_c{scale}", RobustKernel(alpha, scale)


@pytest.mark.parametrize(("name", "kernel"), kernels(), ids=str)
def test_robust_kernels(unit, name, kernel):
    x = unit["loss_x"].clone().requires_grad_()
    cost, weight = kernel(x)
    recorded = unit[f"loss_{name}"]
    assert torch.allclose(cost, recorded[0], atol=1e-9, rtol=1e-6)
    assert torch.allclose(weight, recorded[1], atol=1e-9, rtol=1e-6)
    if name == "huber":  # the only kernel whose second derivative the original computes
        (second,) = torch.autograd.grad(weight.sum(), x)
        assert torch.allclose(second, recorded[2], atol=1e-6, rtol=1e-5)


def test_pose_average_and_quaternions(unit):
    poses = Pose.from_quaternion(unit["wp_q"], unit["wp_t"])
    mean = average_pose(poses, unit["wp_w"])
    assert torch.allclose(mean.rotation, unit["wp_R"], atol=1e-7)
    assert torch.allclose(mean.translation, unit["wp_tout"], atol=1e-7)
    assert torch.allclose(quaternion_to_matrix(unit["wp_q"]), unit["q2R"], atol=1e-9)
    recorded = unit["R2q"] * unit["R2q"][:, :1].sign()
    assert torch.allclose(matrix_to_quaternion(unit["q2R"]), recorded, atol=1e-7)
