"""The rotation group SO(3) and the left Jacobian that SE(3) needs, as batched formulas.

Sources: Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics"
(2018), equations 69 (exponential), 103 (logarithm), 145 (left Jacobian).
"""

from __future__ import annotations

import torch
from torch import Tensor


def skew(vector: Tensor) -> Tensor:
    """Cross-product matrix: `skew(a) @ b == cross(a, b)`. (..., 3) -> (..., 3, 3)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, -1).reshape(*vector.shape[:-1], 3, 3)


def _series(rotvec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(sin a)/a, (1 - cos a)/a^2 and (a - sin a)/a^3 of the angle a, smooth at zero."""
    angle_sq = (rotvec * rotvec).sum(-1)
    small = angle_sq < (1e-4 if rotvec.dtype == torch.float64 else 1e-2)
    # the safe angle keeps the branch that `where` drops free of 0/0, also in its gradient
    angle = torch.where(small, torch.ones_like(angle_sq), angle_sq).sqrt()
    s = angle_sq
    a = torch.where(small, 1 - s / 6 * (1 - s / 20 * (1 - s / 42)), angle.sin() / angle)
    b = torch.where(
        small, 0.5 - s / 24 * (1 - s / 30 * (1 - s / 56)), 2 * (angle / 2).sin() ** 2 / angle**2
    )
    c = torch.where(
        small, 1 / 6 - s / 120 * (1 - s / 42 * (1 - s / 72)), (angle - angle.sin()) / angle**3
    )
    return a[..., None, None], b[..., None, None], c[..., None, None]


def so3_exp(rotvec: Tensor) -> Tensor:
    """Rotation matrix of a rotation vector in radians. (..., 3) -> (..., 3, 3)."""
    a, b, _ = _series(rotvec)
    k = skew(rotvec)
    eye = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    return eye + a * k + b * (k @ k)


def left_jacobian(rotvec: Tensor) -> Tensor:
    """Left Jacobian of SO(3), which is also SE(3)'s V matrix. (..., 3) -> (..., 3, 3)."""
    _, b, c = _series(rotvec)
    k = skew(rotvec)
    eye = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    return eye + b * k + c * (k @ k)


def matrix_to_quaternion(rotation: Tensor) -> Tensor:
    """Unit quaternion (w, x, y, z) with w >= 0 of rotation matrices. (..., 3, 3) -> (..., 4).

    Uses the numerically largest of the four equivalent formulas (Shepperd's method).
    """
    m = rotation
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    four = torch.stack(
        [1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1
    )
    wx, wy, wz = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 0, 1] + m[..., 1, 0],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 1, 2] + m[..., 2, 1],
    )
    w2, x2, y2, z2 = four.unbind(-1)
    rows = torch.stack(
        [
            torch.stack([w2, wx, wy, wz], -1),
            torch.stack([wx, x2, xy, xz], -1),
            torch.stack([wy, xy, y2, yz], -1),
            torch.stack([wz, xz, yz, z2], -1),
        ],
        -2,
    )
    best = four.argmax(-1)[..., None, None].expand(*four.shape[:-1], 1, 4)
    q = rows.gather(-2, best).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices of quaternions (w, x, y, z) of any norm > 0. (..., 4) -> (..., 3, 3)."""
    q = quaternion / quaternion.norm(dim=-1, keepdim=True)
    w, v = q[..., :1, None], q[..., 1:]
    k = skew(v)
    eye = torch.eye(3, dtype=q.dtype, device=q.device)
    return eye + 2 * w * k + 2 * (k @ k)


def so3_log(rotation: Tensor) -> Tensor:
    """Rotation vector with angle in [0, pi] of rotation matrices. (..., 3, 3) -> (..., 3).

    Goes through the quaternion, which is well conditioned at both 0 and pi.
    """
    q = matrix_to_quaternion(rotation)
    w, v = q[..., 0], q[..., 1:]
    sin_sq = (v * v).sum(-1)
    small = sin_sq < 1e-12
    sin_half = torch.where(small, torch.ones_like(sin_sq), sin_sq).sqrt()
    factor = torch.where(small, 2 / w * (1 - sin_sq / (3 * w * w)), 0 * w)
    factor = torch.where(small, factor, 2 * torch.atan2(sin_half, w) / sin_half)
    return factor[..., None] * v
