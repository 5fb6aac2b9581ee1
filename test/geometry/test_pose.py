from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch.autograd.functional import jacobian

from pixloc_ros.geometry import Pose, average_pose
from pixloc_ros.geometry.so3 import (
    left_jacobian,
    matrix_to_quaternion,
    quaternion_to_matrix,
    skew,
    so3_exp,
    so3_log,
)

number = st.floats(-3, 3, allow_nan=False)
vectors = st.tuples(number, number, number).map(lambda v: torch.tensor(v, dtype=torch.float64))
tangents = st.tuples(vectors, vectors).map(torch.cat)


def random_poses(*shape, generator=None):
    return Pose.exp(torch.randn(*shape, 6, dtype=torch.float64, generator=generator))


@given(vectors)
def test_exponential_matches_scipy(vector):
    expected = torch.from_numpy(Rotation.from_rotvec(vector.numpy()).as_matrix())
    assert torch.allclose(so3_exp(vector), expected, atol=1e-12)


@given(vectors)
def test_rotation_logarithm_inverts_the_exponential(vector):
    expected = torch.from_numpy(Rotation.from_rotvec(vector.numpy()).as_rotvec())
    found = so3_log(so3_exp(vector))
    same_turn = torch.minimum((found - expected).norm(), (found + expected).norm())
    # at a half turn both axes are right
    assert (found - expected).norm() < 1e-6 or (
        abs(float(expected.norm()) - math.pi) < 1e-6 and same_turn < 1e-6
    )


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-8, 1e-5, 1e-2, 0.1, 3.0, math.pi - 1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponential_and_logarithm_at_hard_angles(angle, dtype):
    axis = torch.tensor([0.6, -0.48, 0.64], dtype=dtype)
    rotvec = axis * angle
    matrix = so3_exp(rotvec)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-9
    assert torch.allclose(matrix @ matrix.T, torch.eye(3, dtype=dtype), atol=tolerance)
    assert torch.allclose(so3_log(matrix), rotvec, atol=50 * tolerance)
    assert torch.isfinite(jacobian(so3_exp, rotvec)).all()
    assert torch.isfinite(jacobian(so3_log, matrix)).all()


@given(tangents)
def test_se3_exponential_matches_the_matrix_exponential(tangent):
    generator = torch.zeros(4, 4, dtype=torch.float64)
    generator[:3, :3], generator[:3, 3] = skew(tangent[3:]), tangent[:3]
    assert torch.allclose(Pose.exp(tangent).matrix(), torch.matrix_exp(generator), atol=1e-9)


@given(tangents)
def test_se3_logarithm_inverts_the_exponential(tangent):
    tangent = tangent / max(1.0, float(tangent[3:].norm()) / 3.0)
    assert torch.allclose(Pose.exp(tangent).log(), tangent, atol=1e-7)


@given(tangents, tangents, tangents)
def test_group_laws(a, b, c):
    a, b, c = (Pose.exp(v) for v in (a, b, c))
    left, right = (a @ b) @ c, a @ (b @ c)
    assert torch.allclose(left.matrix(), right.matrix(), atol=1e-9)
    assert torch.allclose((a @ a.inverse()).matrix(), torch.eye(4, dtype=torch.float64), atol=1e-9)
    points = torch.randn(5, 3, dtype=torch.float64)
    assert torch.allclose((a @ b).transform(points), a.transform(b.transform(points)), atol=1e-9)


@given(tangents, tangents)
def test_adjoint_moves_a_perturbation_through_a_pose(pose, small):
    pose, small = Pose.exp(pose), 0.1 * small
    left = pose @ Pose.exp(small) @ pose.inverse()
    right = Pose.exp(pose.adjoint() @ small)
    assert torch.allclose(left.matrix(), right.matrix(), atol=1e-9)


def test_transform_jacobian_matches_autograd():
    pose, points = random_poses(), torch.randn(4, 3, dtype=torch.float64)
    zero = torch.zeros(6, dtype=torch.float64)
    numeric = jacobian(lambda delta: pose.perturb(delta).transform(points), zero)
    assert torch.allclose(pose.transform_jacobian(pose.transform(points)), numeric, atol=1e-12)


def test_left_jacobian_matches_autograd():
    phi = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)

    def turned(delta):
        return so3_log(so3_exp(phi + delta) @ so3_exp(phi).T)

    numeric = jacobian(turned, torch.zeros(3, dtype=torch.float64))
    assert torch.allclose(left_jacobian(phi), numeric, atol=1e-9)


@given(vectors)
def test_quaternions_match_scipy(vector):
    rotation = Rotation.from_rotvec(vector.numpy())
    matrix = torch.from_numpy(rotation.as_matrix())
    x, y, z, w = rotation.as_quat(canonical=True)
    found = matrix_to_quaternion(matrix)
    expected = torch.tensor([w, x, y, z])
    assert min((found - expected).norm(), (found + expected).norm()) < 1e-9
    assert found[0] >= 0
    assert torch.allclose(quaternion_to_matrix(3.0 * found), matrix, atol=1e-9)


def test_interpolation_is_even_and_meets_both_ends():
    a, b = random_poses(), random_poses()
    for share, expected in [(0.0, a), (1.0, b)]:
        assert torch.allclose(a.interpolate(b, share).matrix(), expected.matrix(), atol=1e-9)
    quarter = a.interpolate(b, 0.25)
    _, whole = a.distance(b)
    _, part = a.distance(quarter)
    assert torch.allclose(part, whole / 4, atol=1e-9)


def test_matrix_round_trip():
    pose = random_poses(3)
    for rows in (4, 3):
        back = Pose.from_matrix(pose.matrix()[:, :rows])
        assert torch.equal(back.rotation, pose.rotation)
        assert torch.equal(back.translation, pose.translation)


def test_distance_is_between_the_centres():
    base = random_poses()
    other = Pose(base.rotation, base.translation).perturb(torch.zeros(6, dtype=torch.float64))
    moved = Pose.from_rotvec(
        torch.tensor([0.0, 0.0, 0.5], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    )
    metres, radians = (moved @ base).distance(other)
    # a camera that turns on the spot keeps its centre
    assert float(metres) == pytest.approx(0.0, abs=1e-12)
    assert float(radians) == pytest.approx(0.5)


def test_average_of_equal_poses_is_that_pose():
    pose = random_poses()
    mean = average_pose(Pose.stack([pose] * 4), torch.tensor([0.1, 5.0, 2.0, 1.0]).double())
    assert torch.allclose(mean.matrix(), pose.matrix(), atol=1e-9)


def test_behaves_like_a_tensor():
    poses = random_poses(4, 3)
    assert poses.shape == (4, 3)
    assert len(poses) == 4
    assert poses[1].shape == (3,)
    assert poses[..., 0].shape == (4,)
    assert poses[:, None].shape == (4, 1, 3)
    assert poses[torch.tensor([0, 2])].shape == (2, 3)
    assert Pose.stack([poses[0], poses[1]]).shape == (2, 3)
    assert Pose.cat([poses, poses]).shape == (8, 3)
    assert poses.reshape(12).shape == (12,)
    assert poses[0, 0].expand(7).shape == (7,)
    assert poses.to(torch.float32).dtype == torch.float32
    with pytest.raises(IndexError, match="too many indices"):
        poses[0, 0, 0]
    with pytest.raises(TypeError, match="no length"):
        len(poses[0, 0])
    with pytest.raises(ValueError, match="empty"):
        Pose.stack([])


@pytest.mark.parametrize(
    ("rotation", "translation"),
    [
        (torch.eye(4), torch.zeros(3)),
        (torch.eye(3), torch.zeros(2)),
        (torch.eye(3), torch.zeros(2, 3)),
    ],
)
def test_wrong_shapes_are_refused(rotation, translation):
    with pytest.raises(ValueError, match="Pose"):
        Pose(rotation, translation)


def test_gradients_flow():
    tangent = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    points = torch.randn(3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda t: Pose.exp(t).inverse().transform(points), tangent)


def test_with_origin_moves_the_points_not_the_transform():
    generator = torch.Generator().manual_seed(3)
    poses = Pose.exp(torch.randn(4, 6, generator=generator, dtype=torch.float64))
    points = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    origin = torch.tensor([1e3, -2e3, 5.0], dtype=torch.float64)
    expected = poses.transform(points.expand(4, 5, 3))
    found = poses.with_origin(origin).transform((points - origin).expand(4, 5, 3))
    assert torch.allclose(found, expected, atol=1e-9)
    assert torch.allclose(poses[0] @ points, expected[0])
