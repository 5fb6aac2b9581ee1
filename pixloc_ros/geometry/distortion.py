"""Lens distortion: one polynomial that holds those of OpenCV, of COLMAP and of ROS.

Coefficients stand in one order, `COEFFICIENTS`: first OpenCV's twelve of a perspective camera,
then what fisheye models add, then the tilt of the sensor. Those that a model lacks are zero.
"""

from __future__ import annotations

import math

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


def distort(points: Tensor, coefficients: Tensor, in_turn: bool = False) -> tuple[Tensor, Tensor]:
    """Distort points of the plane and differentiate.

    points: (..., 2). coefficients: (..., COUNT), broadcast. in_turn: tangential and prism terms
    act on what the radial ones gave, not on the undistorted points.
    Returns distorted points (..., 2) and Jacobians (..., 2, 2).
    Source: OpenCV, "Camera calibration and 3D reconstruction": rational, thin prism and tilted
    sensor model; in_turn: Project Aria, "Camera intrinsic models", Fisheye624.
    """
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = coefficients[..., :12].unbind(-1)
    n4, n5, n6, t00, t01, t10, t11, t20, t21 = coefficients[..., 12:].unbind(-1)
    x, y = points.unbind(-1)
    u = x * x + y * y
    upper = 1 + u * (k1 + u * (k2 + u * (k3 + u * (n4 + u * (n5 + u * n6)))))
    lower = 1 + u * (k4 + u * (k5 + u * k6))
    radial = upper / lower
    # d radial / d u
    growth = k1 + u * (2 * k2 + u * (3 * k3 + u * (4 * n4 + u * (5 * n5 + u * 6 * n6))))
    slope = (growth - radial * (k4 + u * (2 * k5 + u * 3 * k6))) / lower
    rxx, rxy, ryy = radial + 2 * x * x * slope, 2 * x * y * slope, radial + 2 * y * y * slope
    dx, dy = x * radial, y * radial
    qx, qy = (dx, dy) if in_turn else (x, y)
    v = qx * qx + qy * qy
    ax = 2 * p1 * qx * qy + p2 * (v + 2 * qx * qx) + v * (s1 + s2 * v)
    ay = 2 * p2 * qx * qy + p1 * (v + 2 * qy * qy) + v * (s3 + s4 * v)
    prism_x, prism_y = 2 * (s1 + 2 * s2 * v), 2 * (s3 + 2 * s4 * v)
    axx, axy = 2 * p1 * qy + 6 * p2 * qx + prism_x * qx, 2 * (p1 * qx + p2 * qy) + prism_x * qy
    ayx, ayy = 2 * (p1 * qx + p2 * qy) + prism_y * qx, 2 * p2 * qx + 6 * p1 * qy + prism_y * qy
    if in_turn:
        jxx, jxy = rxx + axx * rxx + axy * rxy, rxy + axx * rxy + axy * ryy
        jyx, jyy = rxy + ayx * rxx + ayy * rxy, ryy + ayx * rxy + ayy * ryy
    else:
        jxx, jxy, jyx, jyy = rxx + axx, rxy + axy, rxy + ayx, ryy + ayy
    dx, dy = dx + ax, dy + ay
    below = 1 + t20 * dx + t21 * dy
    tx, ty = (dx + t00 * dx + t01 * dy) / below, (dy + t10 * dx + t11 * dy) / below
    hxx, hxy = (1 + t00 - tx * t20) / below, (t01 - tx * t21) / below
    hyx, hyy = (t10 - ty * t20) / below, (1 + t11 - ty * t21) / below
    jacobian = torch.stack(
        [
            torch.stack([hxx * jxx + hxy * jyx, hxx * jxy + hxy * jyy], -1),
            torch.stack([hyx * jxx + hyy * jyx, hyx * jxy + hyy * jyy], -1),
        ],
        -2,
    )
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
