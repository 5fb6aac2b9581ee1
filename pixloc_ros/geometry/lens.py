"""How a lens brings rays onto a plane, before distortion: a few ways, each with its inverse.

Every camera model of `camera.py` is one of these ways, followed by the distortion of
`distortion.py`. The fused kernels of `alignment/kernels` have the same ways, by number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum

import torch
from torch import Tensor

MIN_DEPTH = 1e-3
"""Points nearer to the camera plane than this (map units) do not project."""


class Lens(IntEnum):
    """How rays meet the plane. x, y, z: a point in the camera frame.

    PERSPECTIVE: (x, y) / z.
    EQUIDISTANT: the angle from the optical axis is the distance from the centre (Kannala and
    Brandt, 2006). EQUIDISTANT_IN_TURN: the same; tangential and prism terms of the distortion
    then act on what the radial ones gave (Engel et al., Project Aria, "Fisheye624").
    FIELD_OF_VIEW: Devernay and Faugeras (2001), equation 13; shape: omega, 2 tan(omega / 2).
    DIVISION: Fitzgibbon (2001), equation 5; shape: k, unused.
    UNIFIED: enhanced unified camera model, Khomutenko et al. (2016), equation 15; shape: alpha,
    beta.
    """

    PERSPECTIVE = 0
    EQUIDISTANT = 1
    EQUIDISTANT_IN_TURN = 2
    FIELD_OF_VIEW = 3
    DIVISION = 4
    UNIFIED = 5

    @property
    def equidistant(self) -> bool:
        return self in (Lens.EQUIDISTANT, Lens.EQUIDISTANT_IN_TURN)


SHAPE = 2
"""Numbers that the shape of a lens has."""


Flat = tuple[Tensor, Callable[[], Tensor], Tensor]


def flatten(lens: Lens, points: Tensor, shape: Tensor) -> Flat:
    """Points (..., 3) of the camera frame on the plane (..., 2), the Jacobian (..., 2, 3) where
    it is asked for, and whether they meet it (...). shape: (..., SHAPE), broadcast.
    """
    if lens.equidistant:
        return _equidistant(points)
    if lens is Lens.UNIFIED:
        return _unified(points, shape)
    z = points[..., 2]
    inverse = 1 / z.clamp(min=MIN_DEPTH)
    plane = points[..., :2] * inverse[..., None]
    valid = z > MIN_DEPTH

    def onto() -> Tensor:
        eye = _identity(plane)
        return torch.cat([eye, -plane[..., None]], -1) * inverse[..., None, None]

    if lens is Lens.PERSPECTIVE:
        return plane, onto, valid
    squared = (plane * plane).sum(-1)
    if lens is Lens.FIELD_OF_VIEW:
        factor, slope = _field_of_view(squared, shape)
    elif lens is Lens.DIVISION:
        root = (1 - 4 * shape[..., 0] * squared).clamp(min=1e-6).sqrt()
        factor = 2 / (1 + root)
        slope = factor * factor * shape[..., 0] / root
        valid = valid & (4 * shape[..., 0] * squared < 1 - 1e-6)
    else:
        raise ValueError(f"{lens!r} has no formula here")

    def jacobian() -> Tensor:
        bent = factor[..., None, None] * _identity(plane) + 2 * slope[..., None, None] * (
            plane[..., :, None] * plane[..., None, :]
        )
        return bent @ onto()

    return plane * factor[..., None], jacobian, valid


def _identity(plane: Tensor) -> Tensor:
    """(..., 2, 2) of points (..., 2)."""
    return torch.eye(2, dtype=plane.dtype, device=plane.device).expand(*plane.shape, 2)


def _field_of_view(squared: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """Factor of the radius, and its derivative by the squared radius."""
    omega, twice = shape[..., 0], shape[..., 1]
    centred = squared < 1e-12
    safe = torch.where(centred, torch.ones_like(squared), squared)
    radius = safe.sqrt()
    factor = torch.atan(radius * twice) / (radius * omega)
    growth = twice / (omega * (1 + twice * twice * safe))
    slope = (growth - factor) / (2 * safe)
    middle = (twice / omega).expand_as(factor)
    return torch.where(centred, middle, factor), torch.where(centred, 0.0, slope)


def _equidistant(points: Tensor) -> Flat:
    x, y, z = points.unbind(-1)
    rho_sq = x * x + y * y
    on_axis = rho_sq < 1e-14 * (z * z).clamp(min=MIN_DEPTH**2)
    rho = torch.where(on_axis, torch.ones_like(rho_sq), rho_sq).sqrt()
    theta = torch.where(on_axis, torch.zeros_like(rho), torch.atan2(rho, z))
    safe_z = torch.where(z.abs() < MIN_DEPTH, torch.full_like(z, MIN_DEPTH), z)
    ratio = torch.where(on_axis, 1 / safe_z, theta / rho)
    norm_sq = (rho_sq + z * z).clamp(min=MIN_DEPTH**2)
    xy = points[..., :2]

    def jacobian() -> Tensor:
        # d ratio / d (x, y) = (x, y) * bend; on the axis it vanishes with (x, y)
        bend = torch.where(on_axis, torch.zeros_like(z), (z / norm_sq - ratio) / (rho * rho))
        left = ratio[..., None, None] * _identity(xy) + bend[..., None, None] * (
            xy[..., :, None] * xy[..., None, :]
        )
        return torch.cat([left, (-xy / norm_sq[..., None])[..., None]], -1)

    valid = (norm_sq > MIN_DEPTH**2) & (~on_axis | (z > MIN_DEPTH))
    return xy * ratio[..., None], jacobian, valid


def _unified(points: Tensor, shape: Tensor) -> Flat:
    alpha, beta = shape[..., 0], shape[..., 1]
    xy, z = points[..., :2], points[..., 2]
    away = (beta * (xy * xy).sum(-1) + z * z).clamp(min=MIN_DEPTH**2).sqrt()
    depth = alpha * away + (1 - alpha) * z
    valid = (depth > MIN_DEPTH) & (z > -_behind(alpha) * away)
    inverse = 1 / depth.clamp(min=MIN_DEPTH)
    plane = xy * inverse[..., None]

    def jacobian() -> Tensor:
        along = torch.cat(
            [
                (alpha * beta / away)[..., None] * xy,
                (alpha * z / away + 1 - alpha)[..., None],
            ],
            -1,
        )
        eye = _identity(plane)
        wide = torch.cat([eye, torch.zeros_like(eye[..., :1])], -1)
        return (wide - plane[..., :, None] * along[..., None, :]) * inverse[..., None, None]

    return plane, jacobian, valid


def _behind(alpha: Tensor) -> Tensor:
    """How far behind the camera a ray may point: -z over the distance (equation 18)."""
    return torch.where(alpha <= 0.5, alpha / (1 - alpha).clamp(min=1e-6), (1 - alpha) / alpha)


def unflatten(lens: Lens, plane: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """Unit rays (..., 3) that meet the plane at (..., 2), and whether there are any (...)."""
    squared = (plane * plane).sum(-1)
    ones = torch.ones_like(squared)
    if lens.equidistant:
        centred = squared < 1e-16
        theta = torch.where(centred, ones, squared).sqrt()
        side = torch.where(centred[..., None], plane, plane * (theta.sin() / theta)[..., None])
        forward = torch.where(centred, ones, theta.cos())
        return torch.cat([side, forward[..., None]], -1), theta < math.pi
    valid = torch.isfinite(squared)
    forward = ones
    if lens is Lens.FIELD_OF_VIEW:
        omega, twice = shape[..., 0], shape[..., 1]
        centred = squared < 1e-12
        radius = torch.where(centred, ones, squared).sqrt()
        angle = radius * omega
        valid = centred | (angle < math.pi / 2 - 1e-6)
        factor = torch.tan(angle.clamp(max=math.pi / 2 - 1e-6)) / (radius * twice)
        plane = plane * torch.where(centred, omega / twice, factor)[..., None]
    elif lens is Lens.DIVISION:
        below = 1 + shape[..., 0] * squared
        # beyond the largest radius the model folds back
        valid = (below > 1e-6) & (shape[..., 0] * squared < 1)
        plane = plane / below.clamp(min=1e-6)[..., None]
    elif lens is Lens.UNIFIED:
        alpha, beta = shape[..., 0], shape[..., 1]
        inside = 1 - (2 * alpha - 1) * beta * squared
        valid = inside > 0
        root = inside.clamp(min=1e-12).sqrt()
        forward = (1 - beta * alpha * alpha * squared) / (alpha * root + 1 - alpha)
    elif lens is not Lens.PERSPECTIVE:
        raise ValueError(f"{lens!r} has no formula here")
    rays = torch.cat([plane, forward[..., None]], -1)
    return rays / rays.norm(dim=-1, keepdim=True), valid
