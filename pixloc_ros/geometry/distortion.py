"""Lens distortion: one polynomial that holds those of OpenCV, of COLMAP and of ROS.

Coefficients stand in one order, `COEFFICIENTS`: first OpenCV's twelve of a perspective camera,
then what fisheye models add, then the tilt of the sensor. Those that a model lacks are zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

COEFFICIENTS = (
    *("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    *("s1", "s2", "s3", "s4"),
    # of the numerator, by the 8th, 10th and 12th power of the radius
    *("n4", "n5", "n6"),
    # the upper two rows and the lowest of the tilt's homography, less the identity
    *("t00", "t01", "t10", "t11", "t20", "t21"),
)
COUNT = len(COEFFICIENTS)

PLAIN = 5
"""Coefficients of the plain model, the first ones: most cameras have no others."""


def _given(coefficients: Tensor) -> list[bool]:
    """Which coefficients must be reckoned with; a device is not asked, nor one that is learned."""
    if coefficients.device.type != "cpu" or coefficients.requires_grad:
        return [True] * COUNT
    return coefficients.detach().reshape(-1, COUNT).ne(0).any(0).tolist()


def distort(
    points: Tensor, coefficients: Tensor, in_turn: bool = False
) -> tuple[Tensor, Callable[[], Tensor]]:
    """Distort points of the plane and differentiate.

    points: (..., 2). coefficients: (..., COUNT), broadcast. in_turn: tangential and prism terms
    act on what the radial ones gave, not on the undistorted points.
    Returns distorted points (..., 2) and, where they are asked for, Jacobians (..., 2, 2).
    Source: OpenCV, "Camera calibration and 3D reconstruction": rational, thin prism and tilted
    sensor model; in_turn: Project Aria, "Camera intrinsic models", Fisheye624.
    """
    given = _given(coefficients)
    if not any(given):
        eye = torch.eye(2, dtype=points.dtype, device=points.device)
        return points, lambda: eye.expand(*points.shape, 2)
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = coefficients[..., :12].unbind(-1)
    n4, n5, n6, t00, t01, t10, t11, t20, t21 = coefficients[..., 12:].unbind(-1)
    x, y = points.unbind(-1)
    u = x * x + y * y
    high, rational, prism = any(given[12:15]), any(given[5:8]), any(given[8:12])
    tilted, tangential = any(given[15:]), prism or given[2] or given[3]
    top = k3 + u * (n4 + u * (n5 + u * n6)) if high else k3
    radial = 1 + u * (k1 + u * (k2 + u * top))
    if rational:
        lower = 1 + u * (k4 + u * (k5 + u * k6))
        radial = radial / lower
    dx, dy = x * radial, y * radial
    if tangential:
        qx, qy = (dx, dy) if in_turn else (x, y)
        v = qx * qx + qy * qy
        ax = 2 * p1 * qx * qy + p2 * (v + 2 * qx * qx)
        ay = 2 * p2 * qx * qy + p1 * (v + 2 * qy * qy)
        if prism:
            ax, ay = ax + v * (s1 + s2 * v), ay + v * (s3 + s4 * v)
        dx, dy = dx + ax, dy + ay
    tx, ty = dx, dy
    if tilted:
        below = 1 + t20 * dx + t21 * dy
        tx, ty = (dx + t00 * dx + t01 * dy) / below, (dy + t10 * dx + t11 * dy) / below

    def jacobian() -> Tensor:
        # d radial / d u
        slope = k1 + u * (2 * k2 + u * 3 * k3)
        if high:
            slope = slope + u * u * u * (4 * n4 + u * (5 * n5 + u * 6 * n6))
        if rational:
            slope = (slope - radial * (k4 + u * (2 * k5 + u * 3 * k6))) / lower
        rxx, rxy, ryy = radial + 2 * x * x * slope, 2 * x * y * slope, radial + 2 * y * y * slope
        jxx, jxy, jyx, jyy = rxx, rxy, rxy, ryy
        if tangential:
            axx, cross, ayy = (
                2 * p1 * qy + 6 * p2 * qx, 2 * (p1 * qx + p2 * qy), 2 * p2 * qx + 6 * p1 * qy,
            )  # fmt: skip
            axy, ayx = cross, cross
            if prism:
                along_x, along_y = 2 * (s1 + 2 * s2 * v), 2 * (s3 + 2 * s4 * v)
                axx, axy = axx + along_x * qx, axy + along_x * qy
                ayx, ayy = ayx + along_y * qx, ayy + along_y * qy
            if in_turn:
                jxx, jxy = rxx + axx * rxx + axy * rxy, rxy + axx * rxy + axy * ryy
                jyx, jyy = rxy + ayx * rxx + ayy * rxy, ryy + ayx * rxy + ayy * ryy
            else:
                jxx, jxy, jyx, jyy = rxx + axx, rxy + axy, rxy + ayx, ryy + ayy
        if tilted:
            hxx, hxy = (1 + t00 - tx * t20) / below, (t01 - tx * t21) / below
            hyx, hyy = (t10 - ty * t20) / below, (1 + t11 - ty * t21) / below
            jxx, jyx = hxx * jxx + hxy * jyx, hyx * jxx + hyy * jyx
            jxy, jyy = hxx * jxy + hxy * jyy, hyx * jxy + hyy * jyy
        return torch.stack([torch.stack([jxx, jxy], -1), torch.stack([jyx, jyy], -1)], -2)

    return torch.stack([tx, ty], -1), jacobian


def tilt(tau_x: float, tau_y: float) -> dict[str, float]:
    """Coefficients of a sensor that is tilted by two angles, radians.

    Source: OpenCV, "Camera calibration and 3D reconstruction", the matrices after tau; scaled
    so that the last number of the homography is one.
    """
    cx, sx, cy, sy = math.cos(tau_x), math.sin(tau_x), math.cos(tau_y), math.sin(tau_y)
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    turn = about_y @ about_x
    onto = np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]])
    matrix = onto @ turn
    matrix = matrix / matrix[2, 2] - np.eye(3)
    return {f"t{i}{j}": float(matrix[i, j]) for i in range(3) for j in range(2)}


def _smallest_positive_root(polynomial: np.ndarray) -> float:
    """Smallest positive real root of ascending coefficients, or infinity."""
    roots = np.roots(np.trim_zeros(polynomial[::-1], "f"))
    real = roots[np.abs(roots.imag) < 1e-9].real
    positive = real[real > 1e-12]
    return float(positive.min()) if positive.size else math.inf


def radial_limit(coefficients: np.ndarray) -> float:
    """Largest squared radius on the plane up to which the radial part still grows.

    coefficients: (COUNT,). It is the smallest positive root of d(r N/D)/dr, or of D itself;
    beyond it the model folds the image back and a projection is meaningless.
    """
    c = dict(zip(COEFFICIENTS, np.asarray(coefficients, np.float64), strict=True))
    upper = np.poly1d([c["n6"], c["n5"], c["n4"], c["k3"], c["k2"], c["k1"], 1.0])
    lower = np.poly1d([c["k6"], c["k5"], c["k4"], 1.0])
    u2 = np.poly1d([2.0, 0.0])
    growth = (upper + u2 * upper.deriv()) * lower - u2 * upper * lower.deriv()
    return min(_smallest_positive_root(p.coeffs[::-1]) for p in (growth, lower))
