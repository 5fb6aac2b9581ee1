"""Rigid transforms in three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, overload

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.geometry.so3 import (
    left_jacobian,
    matrix_to_quaternion,
    quaternion_to_matrix,
    skew,
    so3_exp,
    so3_log,
)
from pixloc_ros.geometry.tensor_fields import TensorFields


@dataclass(frozen=True)
class Pose(TensorFields):
    """A batch of transforms `a_from_b`: `x_a = rotation @ x_b + translation`.

    rotation: (..., 3, 3); translation: (..., 3), metres.
    Tangent vectors are ordered (translation, rotation), as PixLoc orders its updates.
    """

    rotation: Tensor
    translation: Tensor

    _event_dims: ClassVar[dict[str, int]] = {"rotation": 2, "translation": 1}

    def __post_init__(self) -> None:
        if self.rotation.shape[-2:] != (3, 3) or self.translation.shape[-1:] != (3,):
            raise ValueError(
                f"Pose needs (..., 3, 3) and (..., 3), not {tuple(self.rotation.shape)} "
                f"and {tuple(self.translation.shape)}"
            )
        if self.rotation.shape[:-2] != self.translation.shape[:-1]:
            raise ValueError(
                f"Pose batch shapes differ: {tuple(self.rotation.shape[:-2])} "
                f"and {tuple(self.translation.shape[:-1])}"
            )

    @classmethod
    def identity(cls, *shape: int, dtype: torch.dtype = torch.float32) -> Pose:
        return cls(
            torch.eye(3, dtype=dtype).expand(*shape, 3, 3), torch.zeros(*shape, 3, dtype=dtype)
        )

    @classmethod
    def from_Rt(
        cls,
        rotation: Tensor | np.ndarray | Sequence[Sequence[float]],
        translation: Tensor | np.ndarray | Sequence[float],
    ) -> Pose:
        """From rotation matrices (..., 3, 3) and translations (..., 3).

        Arrays and sequences become float64.
        """
        return cls(_tensor(rotation), _tensor(translation))

    @classmethod
    def from_matrix(cls, matrix: Tensor) -> Pose:
        """From homogeneous matrices (..., 4, 4) or (..., 3, 4)."""
        return cls(matrix[..., :3, :3], matrix[..., :3, 3])

    @classmethod
    def from_quaternion(
        cls,
        quaternion: Tensor | np.ndarray | Sequence[float],
        translation: Tensor | np.ndarray | Sequence[float],
    ) -> Pose:
        """From quaternions (w, x, y, z) of any norm > 0, (..., 4), and translations (..., 3).

        Arrays and sequences become float64.
        """
        return cls(quaternion_to_matrix(_tensor(quaternion)), _tensor(translation))

    @classmethod
    def from_rotvec(cls, rotvec: Tensor, translation: Tensor) -> Pose:
        """From rotation vectors (..., 3) in radians and translations (..., 3)."""
        return cls(so3_exp(rotvec), translation)

    @classmethod
    def exp(cls, tangent: Tensor) -> Pose:
        """SE(3) exponential of (..., 6), translation part first. Sola 2018, equation 172."""
        rho, phi = tangent[..., :3], tangent[..., 3:]
        return cls(so3_exp(phi), (left_jacobian(phi) @ rho[..., None]).squeeze(-1))

    def log(self) -> Tensor:
        """SE(3) logarithm, (..., 6), the inverse of `exp` for rotations below pi."""
        phi = so3_log(self.rotation)
        rho = torch.linalg.solve(left_jacobian(phi), self.translation[..., None]).squeeze(-1)
        return torch.cat([rho, phi], -1)

    def matrix(self) -> Tensor:
        """Homogeneous matrices, (..., 4, 4)."""
        top = torch.cat([self.rotation, self.translation[..., None]], -1)
        bottom = torch.tensor([0.0, 0, 0, 1], dtype=self.dtype, device=self.device)
        return torch.cat([top, bottom.expand(*self.shape, 1, 4)], -2)

    def quaternion(self) -> Tensor:
        """Unit quaternions (w, x, y, z) with w >= 0, (..., 4)."""
        return matrix_to_quaternion(self.rotation)

    def inverse(self) -> Pose:
        rotation = self.rotation.transpose(-1, -2)
        return Pose(rotation, -(rotation @ self.translation[..., None]).squeeze(-1))

    def compose(self, other: Pose) -> Pose:
        """`a_from_b.compose(b_from_c)` is `a_from_c`."""
        moved = (self.rotation @ other.translation[..., None]).squeeze(-1)
        return Pose(self.rotation @ other.rotation, moved + self.translation)

    @overload
    def __matmul__(self, other: Pose) -> Pose: ...
    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    def __matmul__(self, other: Pose | Tensor) -> Pose | Tensor:
        """Compose with a pose, or transform points (..., N, 3)."""
        return self.compose(other) if isinstance(other, Pose) else self.transform(other)

    def transform(self, points: Tensor) -> Tensor:
        """Points (..., N, 3) of frame b in frame a; batch shapes broadcast."""
        return points @ self.rotation.transpose(-1, -2) + self.translation[..., None, :]

    def with_origin(self, origin: Tensor) -> Pose:
        """The transform of points that are given from `origin` (3,), a point of frame b.

        Coordinates near zero keep their precision, whatever those of a map are.
        """
        moved = (self.rotation @ origin[:, None]).squeeze(-1) + self.translation
        return Pose(self.rotation, moved)

    def transform_jacobian(self, points: Tensor) -> Tensor:
        """d(perturbed transform)/d(delta) of a left `perturb`, (..., N, 3, 6).

        points: (..., N, 3) already in frame a. PixLoc (CVPR 2021), supplement: [I | -[X]_x].
        """
        eye = torch.eye(3, dtype=points.dtype, device=points.device)
        return torch.cat([eye.expand(*points.shape[:-1], 3, 3), -skew(points)], -1)

    def perturb(self, delta: Tensor) -> Pose:
        """PixLoc's pose update: (exp(delta[3:]), delta[:3]) composed from the left."""
        return Pose.from_rotvec(delta[..., 3:], delta[..., :3]).compose(self)

    def interpolate(self, other: Pose, share: float) -> Pose:
        """The pose at a share in [0, 1] of the way: straight in translation, even in rotation."""
        turn = so3_log(self.rotation.transpose(-1, -2) @ other.rotation) * share
        translation = self.translation + (other.translation - self.translation) * share
        return Pose(self.rotation @ so3_exp(turn), translation)

    def adjoint(self) -> Tensor:
        """(..., 6, 6) with `T exp(v) T^-1 = exp(adjoint(T) v)`, translation first."""
        top = torch.cat([self.rotation, skew(self.translation) @ self.rotation], -1)
        bottom = torch.cat([torch.zeros_like(self.rotation), self.rotation], -1)
        return torch.cat([top, bottom], -2)

    def distance(self, other: Pose) -> tuple[Tensor, Tensor]:
        """(metres between the origins of frame b, rotation angle in radians), each (...)."""
        a, b = self.inverse(), other.inverse()
        angle = so3_log(self.rotation.transpose(-1, -2) @ other.rotation).norm(dim=-1)
        return (a.translation - b.translation).norm(dim=-1), angle


def _tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values, float))


def average_pose(poses: Pose, weights: Tensor) -> Pose:
    """Weighted mean of (N,) cam_from_map poses: centres linearly, rotations on the sphere.

    The rotation is the principal eigenvector of sum(w q q^T): Markley et al., "Averaging
    quaternions" (2007), equation 12.
    """
    weights = weights / weights.sum()
    q = poses.quaternion()
    _, vectors = torch.linalg.eigh((weights[:, None, None] * q[:, :, None] * q[:, None]).sum(0))
    centre = (weights[:, None] * poses.inverse().translation).sum(0)
    rotation = quaternion_to_matrix(vectors[:, -1])
    return Pose(rotation, -rotation @ centre)
