"""Lens distortion: the polynomial/rational Brown model and the equidistant fisheye model.

Coefficients are kept in one superset order, OpenCV's (k1, k2, p1, p2, k3, k4, k5, k6) for
perspective cameras and (k1, k2, k3, k4) for fisheye, so that one formula serves every model.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def brown(points: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Distort normalized points and differentiate.

    points: (..., 2) on the plane z = 1. coefficients: (..., 8), broadcast.
    Returns distorted points (..., 2) and Jacobians (..., 2, 2).
    Source: OpenCV, "Camera calibration and 3D reconstruction", rational model.
    """
    k1, k2, p1, p2, k3, k4, k5, k6 = coefficients.unbind(-1)
    x, y = points.unbind(-1)
    u = x * x + y * y
    upper = 1 + u * (k1 + u * (k2 + u * k3))
    lower = 1 + u * (k4 + u * (k5 + u * k6))
    radial = upper / lower
    # d radial / d u
    slope = (k1 + u * (2 * k2 + u * 3 * k3) - radial * (k4 + u * (2 * k5 + u * 3 * k6))) / lower
    xy = x * y
    dx = x * radial + 2 * p1 * xy + p2 * (u + 2 * x * x)
    dy = y * radial + 2 * p2 * xy + p1 * (u + 2 * y * y)
    cross = 2 * xy * slope + 2 * p1 * x + 2 * p2 * y
    jacobian = torch.stack(
        [
            torch.stack([radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x, cross], -1),
            torch.stack([cross, radial + 2 * y * y * slope + 2 * p2 * x + 6 * p1 * y], -1),
        ],
        -2,
    )
    return torch.stack([dx, dy], -1), jacobian


def fisheye_radius(theta: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Image radius of the angle theta from the optical axis, and its derivative, both (...).

    coefficients: (..., 4). Source: Kannala and Brandt (2006), equation 6, as OpenCV has it.
    """
    k1, k2, k3, k4 = coefficients.unbind(-1)
    t = theta * theta
    radius = theta * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))
    slope = 1 + t * (3 * k1 + t * (5 * k2 + t * (7 * k3 + t * 9 * k4)))
    return radius, slope


def _smallest_positive_root(polynomial: np.ndarray) -> float:
    """Smallest positive real root of ascending coefficients, or infinity."""
    roots = np.roots(np.trim_zeros(polynomial[::-1], "f"))
    real = roots[np.abs(roots.imag) < 1e-9].real
    positive = real[real > 1e-12]
    return float(positive.min()) if positive.size else math.inf


def brown_limit(coefficients: np.ndarray) -> float:
    """Largest squared radius u on z = 1 up to which the radial part still grows.

    coefficients: (8,). It is the smallest positive root of d(r N/D)/dr, or of D itself;
    beyond it the model folds the image back and a projection is meaningless.
    """
    k1, k2, _, _, k3, k4, k5, k6 = np.asarray(coefficients, np.float64)
    upper, lower = np.poly1d([k3, k2, k1, 1.0]), np.poly1d([k6, k5, k4, 1.0])
    u2 = np.poly1d([2.0, 0.0])
    growth = (upper + u2 * upper.deriv()) * lower - u2 * upper * lower.deriv()
    return min(_smallest_positive_root(p.coeffs[::-1]) for p in (growth, lower))


def fisheye_limit(coefficients: np.ndarray) -> float:
    """Largest angle theta (radians, at most pi) up to which the image radius grows."""
    k1, k2, k3, k4 = np.asarray(coefficients, np.float64)
    root = _smallest_positive_root(np.array([1.0, 3 * k1, 5 * k2, 7 * k3, 9 * k4]))
    return min(math.sqrt(root), math.pi)
