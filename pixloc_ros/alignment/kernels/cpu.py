"""The fused step for processors: numba, no array of size N x C is written."""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pixloc_ros.alignment.kernels import packing as p
from pixloc_ros.alignment.kernels.compiled import threads, use_writable_cache
from pixloc_ros.alignment.kernels.packing import PackedLevel
from pixloc_ros.alignment.kernels.reference import UNRELATED
from pixloc_ros.alignment.problem import AlignmentProblem, LMOptions, QueryMap
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.geometry.lens import MIN_DEPTH, Lens

use_writable_cache(__file__)


# of functions that only compiled ones call; dividing by zero gives infinity, as in torch
_INNER = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# what may be reordered without giving up on NaN and infinity
_FAST = {"reassoc", "contract", "nsz", "arcp"}
_F = np.float32
BLOCKS = 4
"""Blocks of points that one task of a thread takes."""

_BLOCK, _POINT, _SUMS = p.BLOCK, p.POINT, p.SUMS
_FOCAL, _CENTRE, _DISTORTION, _LIMIT = p.FOCAL, p.CENTRE, p.DISTORTION, p.LIMIT
_LENS, _SHAPE, _FURTHER = p.LENS, p.SHAPE, p.FURTHER
_COLUMNS, _ROWS, _FIRST, _LOW, _HIGH, _MOUNT = p.COLUMNS, p.ROWS, p.FIRST, p.LOW, p.HIGH, p.MOUNT
_POSE, _TRIED, _HESSIAN, _GRADIENT = p.POSE, p.TRIED, p.HESSIAN, p.GRADIENT
_COST, _BOOST, _DONE, _FAILED = p.COST, p.BOOST, p.DONE, p.FAILED
_ITERATIONS, _SEEN, _FRESH = p.ITERATIONS, p.SEEN, p.FRESH
_SUM_COST, _SUM_SEEN, _SUM_MOTION = p.SUM_COST, p.SUM_SEEN, p.SUM_MOTION
_SUM_BOTH, _SUM_SHARE = p.SUM_BOTH, p.SUM_SHARE
_PERSPECTIVE, _EQUIDISTANT = int(Lens.PERSPECTIVE), int(Lens.EQUIDISTANT)
_IN_TURN, _FIELD_OF_VIEW = int(Lens.EQUIDISTANT_IN_TURN), int(Lens.FIELD_OF_VIEW)
_UNIFIED = int(Lens.UNIFIED)
_HUBER, _SQUARED, _CAUCHY, _WELSCH = p.HUBER, p.SQUARED, p.CAUCHY, p.WELSCH


@njit(**_INNER)
def _flatten(camera, x, y, z, jacobian):
    """A point of the camera frame on the plane, and validity; fills jacobian (2, 3).

    As `geometry.lens.flatten`.
    """
    kind = int(camera[_LENS])
    s0, s1 = camera[_SHAPE], camera[_SHAPE + 1]
    one, two, near = _F(1.0), _F(2.0), _F(MIN_DEPTH)
    if kind in (_EQUIDISTANT, _IN_TURN):
        rho_sq = x * x + y * y
        on_axis = rho_sq < _F(1e-14) * max(z * z, near * near)
        rho = one if on_axis else math.sqrt(rho_sq)
        theta = _F(0.0) if on_axis else math.atan2(rho, z)
        safe = near if abs(z) < near else z
        ratio = one / safe if on_axis else theta / rho
        norm_sq = max(rho_sq + z * z, near * near)
        bend = _F(0.0) if on_axis else (z / norm_sq - ratio) / (rho * rho)
        jacobian[0, 0] = ratio + bend * x * x
        jacobian[0, 1] = jacobian[1, 0] = bend * x * y
        jacobian[1, 1] = ratio + bend * y * y
        jacobian[0, 2], jacobian[1, 2] = -x / norm_sq, -y / norm_sq
        good = norm_sq > near * near and (not on_axis or z > near)
        return x * ratio, y * ratio, good
    if kind == _UNIFIED:
        away = math.sqrt(max(s1 * (x * x + y * y) + z * z, near * near))
        depth = s0 * away + (one - s0) * z
        behind = s0 / max(one - s0, _F(1e-6)) if s0 <= _F(0.5) else (one - s0) / s0
        inverse = one / max(depth, near)
        a, b = x * inverse, y * inverse
        across, along = s0 * s1 / away, s0 * z / away + one - s0
        jacobian[0, 0] = (one - a * across * x) * inverse
        jacobian[0, 1] = -a * across * y * inverse
        jacobian[0, 2] = -a * along * inverse
        jacobian[1, 0] = -b * across * x * inverse
        jacobian[1, 1] = (one - b * across * y) * inverse
        jacobian[1, 2] = -b * along * inverse
        return a, b, depth > near and z > -behind * away
    inverse = one / max(z, near)
    a, b = x * inverse, y * inverse
    good = z > near
    u = a * a + b * b
    factor, slope = one, _F(0.0)
    if kind == _PERSPECTIVE:
        pass
    elif kind == _FIELD_OF_VIEW:
        factor = s1 / s0
        if u >= _F(1e-12):
            radius = math.sqrt(u)
            factor = math.atan(radius * s1) / (radius * s0)
            slope = (s1 / (s0 * (one + s1 * s1 * u)) - factor) / (two * u)
    else:
        inside = one - _F(4.0) * s0 * u
        root = math.sqrt(max(inside, _F(1e-6)))
        factor = two / (one + root)
        slope = factor * factor * s0 / root
        good = good and inside > _F(1e-6)
    xx = factor + two * slope * a * a
    xy = two * slope * a * b
    yy = factor + two * slope * b * b
    jacobian[0, 0], jacobian[0, 1] = xx * inverse, xy * inverse
    jacobian[1, 0], jacobian[1, 1] = xy * inverse, yy * inverse
    jacobian[0, 2] = -(xx * a + xy * b) * inverse
    jacobian[1, 2] = -(xy * a + yy * b) * inverse
    return a * factor, b * factor, good


@njit(**_INNER)
def _project(camera, x, y, z, jacobian):
    """Pixel and validity of a point in the camera frame; fills jacobian (2, 3).

    As `geometry.distortion.distort` on what the lens gave.
    """
    a, b, good = _flatten(camera, x, y, z, jacobian)
    one, two = _F(1.0), _F(2.0)
    c = camera[_DISTORTION:_LIMIT]
    p1, p2 = c[2], c[3]
    further = camera[_FURTHER] > _F(0.0)
    u = a * a + b * b
    radial = one + u * (c[0] + u * (c[1] + u * c[4]))
    slope = c[0] + u * (two * c[1] + u * _F(3) * c[4])
    if further:
        high = u * u * u
        upper = radial + high * u * (c[12] + u * (c[13] + u * c[14]))
        lower = one + u * (c[5] + u * (c[6] + u * c[7]))
        radial = upper / lower
        growth = slope + high * (_F(4) * c[12] + u * (_F(5) * c[13] + u * _F(6) * c[14]))
        slope = (growth - radial * (c[5] + u * (two * c[6] + u * _F(3) * c[7]))) / lower
    rxx, rxy = radial + two * a * a * slope, two * a * b * slope
    ryy = radial + two * b * b * slope
    dx, dy = a * radial, b * radial
    in_turn = int(camera[_LENS]) == _IN_TURN
    qx, qy = a, b
    if in_turn:
        qx, qy = dx, dy
    v = qx * qx + qy * qy
    axx = two * p1 * qy + _F(6) * p2 * qx
    axy = two * (p1 * qx + p2 * qy)
    ayx = axy
    ayy = two * p2 * qx + _F(6) * p1 * qy
    dx += two * p1 * qx * qy + p2 * (v + two * qx * qx)
    dy += two * p2 * qx * qy + p1 * (v + two * qy * qy)
    if further:
        s1, s2, s3, s4 = c[8], c[9], c[10], c[11]
        prism_x, prism_y = two * (s1 + two * s2 * v), two * (s3 + two * s4 * v)
        axx, axy = axx + prism_x * qx, axy + prism_x * qy
        ayx, ayy = ayx + prism_y * qx, ayy + prism_y * qy
        dx += v * (s1 + s2 * v)
        dy += v * (s3 + s4 * v)
    jxx, jxy, jyx, jyy = rxx + axx, rxy + axy, rxy + ayx, ryy + ayy
    if in_turn:
        jxx, jxy = rxx + axx * rxx + axy * rxy, rxy + axx * rxy + axy * ryy
        jyx, jyy = rxy + ayx * rxx + ayy * rxy, ryy + ayx * rxy + ayy * ryy
    fx, fy = camera[_FOCAL], camera[_FOCAL + 1]
    tx, ty = dx, dy
    xx, xy, yx, yy = fx * jxx, fx * jxy, fy * jyx, fy * jyy
    if further:
        t00, t01, t10, t11, t20, t21 = c[15], c[16], c[17], c[18], c[19], c[20]
        below = one / (one + t20 * dx + t21 * dy)
        tx, ty = (dx + t00 * dx + t01 * dy) * below, (dy + t10 * dx + t11 * dy) * below
        hxx, hxy = fx * (one + t00 - tx * t20) * below, fx * (t01 - tx * t21) * below
        hyx, hyy = fy * (t10 - ty * t20) * below, fy * (one + t11 - ty * t21) * below
        xx, xy = hxx * jxx + hxy * jyx, hxx * jxy + hxy * jyy
        yx, yy = hyx * jxx + hyy * jyx, hyx * jxy + hyy * jyy
    for k in range(3):
        first, second = jacobian[0, k], jacobian[1, k]
        jacobian[0, k] = xx * first + xy * second
        jacobian[1, k] = yx * first + yy * second
    u_cell = tx * fx + camera[_CENTRE]
    v_cell = ty * fy + camera[_CENTRE + 1]
    low = camera[_LOW]
    # comparisons that a NaN fails
    good = good and u < camera[_LIMIT] and u_cell >= low and v_cell >= low
    good = good and u_cell <= camera[_HIGH] and v_cell <= camera[_HIGH + 1]
    return _F(u_cell), _F(v_cell), good


@njit(**_INNER)
def _robust(squared, kind, alpha, scale):
    area = scale * scale
    x = squared / area
    if kind == _CAUCHY:
        return _F(2) * math.log1p(x / _F(2)) * area, _F(1) / (_F(1) + x / _F(2))
    if kind == _SQUARED:
        return squared, _F(1)
    if kind == _HUBER:
        root = math.sqrt(max(x, _F(1)))
        return (x if x <= _F(1) else _F(2) * root - _F(1)) * area, _F(1) / root
    if kind == _WELSCH:
        weight = math.exp(-x / _F(2))
        return _F(2) * (_F(1) - weight) * area, weight
    b = abs(alpha - _F(2))
    inner = _F(1) + x / b
    cost = _F(2) * b / alpha * (inner ** (alpha / _F(2)) - _F(1))
    return cost * area, inner ** (alpha / _F(2) - _F(1))


@njit(**_INNER, fastmath=_FAST)
def _sample(rows, columns, height, first, u, v, feature, out):
    """G^T G, G^T r and r^T r of one point into out (6,): a walk over its channels.

    rows: flat. Cells beyond the border, which only a gradient reaches, count as zero.
    """
    channels = np.uint64(feature.shape[0])
    bx, by = math.floor(u - _F(0.5)), math.floor(v - _F(0.5))
    fx, fy = u - _F(0.5) - _F(bx), v - _F(0.5) - _F(by)
    x, y = int(bx), int(by)
    half = _F(0.5)
    left, right = _F(1), _F(1)
    above, below = _F(1), _F(1)
    x0, x3, y0, y3 = x - 1, x + 2, y - 1, y + 2
    if x0 < 0:
        x0, left = 0, _F(0)
    if x3 >= columns:
        x3, right = columns - 1, _F(0)
    if y0 < 0:
        y0, above = 0, _F(0)
    if y3 >= height:
        y3, below = height - 1, _F(0)
    vx1, vx2 = _F(1) - fx, fx
    vy1, vy2 = _F(1) - fy, fy
    sx0, sx1 = (fx - _F(1)) * half * left, -fx * half
    sx2, sx3 = (_F(1) - fx) * half, fx * half * right
    sy0, sy1 = (fy - _F(1)) * half * above, -fy * half
    sy2, sy3 = (_F(1) - fy) * half, fy * half * below
    # unsigned: no test for indices that count from the end, which would stop vectorization
    above1 = np.uint64(first + y0 * columns + x) * channels
    above2 = np.uint64(first + y0 * columns + x + 1) * channels
    upper0 = np.uint64(first + y * columns + x0) * channels
    upper1 = np.uint64(first + y * columns + x) * channels
    upper2 = np.uint64(first + y * columns + x + 1) * channels
    upper3 = np.uint64(first + y * columns + x3) * channels
    lower0 = np.uint64(first + (y + 1) * columns + x0) * channels
    lower1 = np.uint64(first + (y + 1) * columns + x) * channels
    lower2 = np.uint64(first + (y + 1) * columns + x + 1) * channels
    lower3 = np.uint64(first + (y + 1) * columns + x3) * channels
    below1 = np.uint64(first + y3 * columns + x) * channels
    below2 = np.uint64(first + y3 * columns + x + 1) * channels
    gxx = gxy = gyy = rx = ry = rr = _F(0)
    for c in range(channels):
        u1, u2 = rows[upper1 + c], rows[upper2 + c]
        l1, l2 = rows[lower1 + c], rows[lower2 + c]
        upper, lower = vx1 * u1 + vx2 * u2, vx1 * l1 + vx2 * l2
        over = vx1 * rows[above1 + c] + vx2 * rows[above2 + c]
        under = vx1 * rows[below1 + c] + vx2 * rows[below2 + c]
        residual = vy1 * upper + vy2 * lower - feature[c]
        along_x = vy1 * (
            sx0 * rows[upper0 + c] + sx1 * u1 + sx2 * u2 + sx3 * rows[upper3 + c]
        ) + vy2 * (sx0 * rows[lower0 + c] + sx1 * l1 + sx2 * l2 + sx3 * rows[lower3 + c])
        along_y = sy0 * over + sy1 * upper + sy2 * lower + sy3 * under
        gxx += along_x * along_x
        gxy += along_x * along_y
        gyy += along_y * along_y
        rx += along_x * residual
        ry += along_y * residual
        rr += residual * residual
    out[0], out[1], out[2], out[3], out[4], out[5] = gxx, gxy, gyy, rx, ry, rr


@njit(**_INNER)
def _confidence(seen, columns, height, first, u, v):
    """Bilinear; a valid point has its four cells on the map."""
    bx, by = math.floor(u - _F(0.5)), math.floor(v - _F(0.5))
    fx, fy = u - _F(0.5) - _F(bx), v - _F(0.5) - _F(by)
    x, y = int(bx), int(by)
    right, below = min(x + 1, columns - 1), min(y + 1, height - 1)
    upper = (_F(1) - fx) * seen[first + y * columns + x] + fx * seen[first + y * columns + right]
    lower = (_F(1) - fx) * seen[first + below * columns + x] + fx * seen[
        first + below * columns + right
    ]
    return (_F(1) - fy) * upper + fy * lower


@njit(**_INNER)
def _transform(pose, camera, point, rigged):
    """The point in the rig's frame into rigged (3,), and in the camera's frame."""
    for i in range(3):
        rigged[i] = (
            pose[3 * i] * point[0]
            + pose[3 * i + 1] * point[1]
            + pose[3 * i + 2] * point[2]
            + pose[9 + i]
        )
    m = camera[_MOUNT:]
    x = m[0] * rigged[0] + m[1] * rigged[1] + m[2] * rigged[2] + m[9]
    y = m[3] * rigged[0] + m[4] * rigged[1] + m[5] * rigged[2] + m[10]
    z = m[6] * rigged[0] + m[7] * rigged[1] + m[8] * rigged[2] + m[11]
    return x, y, z


@njit(**_INNER)
def _block(
    rows, seen, camera, points, features, confidence, begin, end, state, kernel, unseen,
    sums, parts,
):  # fmt: skip
    """Add what the points of a block contribute at the pose that is tried."""
    kind, alpha, scale = kernel
    columns, height = int(camera[_COLUMNS]), int(camera[_ROWS])
    first = int(camera[_FIRST])
    lens, rigged = np.empty((2, 3), np.float32), np.empty(3, np.float32)
    products, jacobian = np.empty(6, np.float32), np.empty((2, 6), np.float32)
    old_pose, pose = state[_POSE : _POSE + 12], state[_TRIED : _TRIED + 12]
    m = camera[_MOUNT:]
    for n in range(begin, end):
        own = confidence[n]
        if own < 0.0:
            if parts.shape[0]:
                for i in range(_POINT):
                    parts[n, i] = _F(0)
            continue
        x, y, z = _transform(pose, camera, points[n], rigged)
        u, v, good = _project(camera, x, y, z, lens)
        sums[_SUM_SHARE] += own
        squared = weight = both = _F(0)
        if good:
            for r in range(2):
                # through the camera's place on the rig: cam_from_rig [I | -[X]_x]
                a = lens[r, 0] * m[0] + lens[r, 1] * m[3] + lens[r, 2] * m[6]
                b = lens[r, 0] * m[1] + lens[r, 1] * m[4] + lens[r, 2] * m[7]
                c = lens[r, 0] * m[2] + lens[r, 1] * m[5] + lens[r, 2] * m[8]
                jacobian[r, 0], jacobian[r, 1], jacobian[r, 2] = a, b, c
                jacobian[r, 3] = c * rigged[1] - b * rigged[2]
                jacobian[r, 4] = a * rigged[2] - c * rigged[0]
                jacobian[r, 5] = b * rigged[0] - a * rigged[1]
            _sample(rows, columns, height, first, u, v, features[n], products)
            squared = products[5]
            cost, slope = _robust(squared, kind, alpha, scale)
            both = own * _confidence(seen, columns, height, first, u, v)
            weight = both * slope
            at = 0
            for i in range(6):
                gx = weight * (products[0] * jacobian[0, i] + products[1] * jacobian[1, i])
                gy = weight * (products[1] * jacobian[0, i] + products[2] * jacobian[1, i])
                for j in range(i, 6):
                    sums[at] += gx * jacobian[0, j] + gy * jacobian[1, j]
                    at += 1
                sums[21 + i] += weight * (
                    products[3] * jacobian[0, i] + products[4] * jacobian[1, i]
                )
            sums[_SUM_COST] += cost * own
            sums[_SUM_SEEN] += _F(1)
            x, y, z = _transform(old_pose, camera, points[n], rigged)
            old_u, old_v, before = _project(camera, x, y, z, lens)
            if before:
                sums[_SUM_MOTION] += (u - old_u) ** 2 + (v - old_v) ** 2
                sums[_SUM_BOTH] += _F(1)
        else:
            sums[_SUM_COST] += unseen * own
        if parts.shape[0]:
            parts[n, 0], parts[n, 1], parts[n, 2] = u, v, squared
            parts[n, 3], parts[n, 4], parts[n, 5] = _F(good), both, weight


@njit(**_INNER)
def _solve(state, damping, delta):
    """Whether H + damping is positive definite, and the step into delta (6,)."""
    factor = np.zeros((6, 6), np.float32)
    at = 0
    for i in range(6):
        for j in range(i, 6):
            factor[j, i] = state[_HESSIAN + at]
            at += 1
    for i in range(6):
        factor[i, i] += max(factor[i, i] * damping[i] * state[_BOOST], _F(1e-6))
    for j in range(6):
        pivot = factor[j, j]
        for k in range(j):
            pivot -= factor[j, k] * factor[j, k]
        if not (pivot > 0.0 and pivot < _F(3e38)):
            return False
        factor[j, j] = math.sqrt(pivot)
        for i in range(j + 1, 6):
            rest = factor[i, j]
            for k in range(j):
                rest -= factor[i, k] * factor[j, k]
            factor[i, j] = rest / factor[j, j]
    for i in range(6):
        rest = -state[_GRADIENT + i]
        for k in range(i):
            rest -= factor[i, k] * delta[k]
        delta[i] = rest / factor[i, i]
    for back in range(6):
        i = 5 - back
        rest = delta[i]
        for k in range(i + 1, 6):
            rest -= factor[k, i] * delta[k]
        delta[i] = rest / factor[i, i]
    size = _F(0)
    for i in range(6):
        size += abs(delta[i])
    return size < _F(3e38)


@njit(**_INNER)
def _perturb(pose, delta, moved):
    """(exp(delta[3:]), delta[:3]) composed from the left: moved (12,)."""
    a, b, c = delta[3], delta[4], delta[5]
    s = a * a + b * b + c * c
    if s < _F(1e-2):
        sine = _F(1) - s / _F(6) * (_F(1) - s / _F(20) * (_F(1) - s / _F(42)))
        turn = _F(0.5) - s / _F(24) * (_F(1) - s / _F(30) * (_F(1) - s / _F(56)))
    else:
        angle = math.sqrt(s)
        sine = math.sin(angle) / angle
        turn = _F(2) * math.sin(angle / _F(2)) ** 2 / s
    for column in range(4):
        at, step = (column, 3) if column < 3 else (9, 1)
        x, y, z = pose[at], pose[at + step], pose[at + 2 * step]
        # k x v and k x (k x v)
        p, q, r = b * z - c * y, c * x - a * z, a * y - b * x
        moved[at] = x + sine * p + turn * (b * r - c * q)
        moved[at + step] = y + sine * q + turn * (c * p - a * r)
        moved[at + 2 * step] = z + sine * r + turn * (a * q - b * p)
    for i in range(3):
        moved[9 + i] += delta[i]


@njit(**_INNER)
def _absorb(state, sums, tolerance, reject):
    """Take the system at the pose that was tried, or go back."""
    share = max(sums[_SUM_SHARE], _F(1e-9))
    cost = sums[_SUM_COST] / share
    fresh = state[_FRESH] > 0.0
    better = cost <= state[_COST]
    take = fresh or better or not reject
    if not fresh:
        settled = math.sqrt(sums[_SUM_MOTION] / max(sums[_SUM_BOTH], _F(1))) < tolerance
        if reject:
            boost = state[_BOOST] / _F(3) if better else state[_BOOST] * _F(10)
            state[_BOOST] = min(max(boost, _F(1e-3)), _F(1e6))
        if settled:
            state[_DONE] = _F(1)
        if take:
            state[_ITERATIONS] += _F(1)
    if take:
        # one by one: what numba makes of slices, to compare their shapes, takes two seconds more
        # to compile
        for i in range(12):
            state[_POSE + i] = state[_TRIED + i]
        for i in range(27):
            state[_HESSIAN + i] = sums[i]
        state[_COST] = cost
        state[_SEEN] = sums[_SUM_SEEN]
    state[_FRESH] = _F(0)


@njit(**_INNER)
def _propose(state, damping, least, delta):
    if state[_DONE] > 0.0 or state[_FAILED] > 0.0:
        return
    if state[_SEEN] < least or not _solve(state, damping, delta):
        state[_FAILED] = _F(1)
        return
    _perturb(state[_POSE : _POSE + 12], delta, state[_TRIED : _TRIED + 12])


@njit(cache=True, error_model="numpy", parallel=True, nogil=True)
def _evaluate(
    rows, seen, cameras, camera_of, points, features, confidence, state, kernel, unseen,
    partial, parts,
):  # fmt: skip
    """Sums (B, tasks, SUMS) of hypotheses that are not done, at the poses that are tried."""
    tasks = partial.shape[1]
    for job in prange(state.shape[0] * tasks):
        b, task = job // tasks, job % tasks
        if state[b, _DONE] > 0.0 or state[b, _FAILED] > 0.0:
            continue
        sums = partial[b, task]
        for i in range(_SUMS):
            sums[i] = _F(0)
        last = min((task + 1) * BLOCKS, len(camera_of))
        for block in range(task * BLOCKS, last):
            _block(
                rows, seen, cameras[camera_of[block]], points, features, confidence,
                block * _BLOCK, (block + 1) * _BLOCK, state[b], kernel, unseen, sums,
                parts[b],
            )  # fmt: skip


@njit(cache=True, error_model="numpy", nogil=True)
def _optimize(
    rows, seen, cameras, camera_of, points, features, confidence, state, damping, kernel,
    unseen, iterations, tolerance, reject, least, partial,
):  # fmt: skip
    delta = np.empty(6, np.float32)
    sums = np.empty(_SUMS, np.float32)
    nothing = np.empty((state.shape[0], 0, _POINT), np.float32)
    for number in range(iterations + 1):
        _evaluate(
            rows, seen, cameras, camera_of, points, features, confidence, state, kernel,
            unseen, partial, nothing,
        )  # fmt: skip
        going = False
        for b in range(state.shape[0]):
            if state[b, _DONE] > 0.0 or state[b, _FAILED] > 0.0:
                continue
            for i in range(_SUMS):
                total = _F(0)
                for task in range(partial.shape[1]):
                    total += partial[b, task, i]
                sums[i] = total
            _absorb(state[b], sums, tolerance, reject)
            if number < iterations:
                _propose(state[b], damping, least, delta)
            going = going or not (state[b, _DONE] > 0.0 or state[b, _FAILED] > 0.0)
        if not going:
            break


def _arrays(level: PackedLevel) -> tuple[np.ndarray, ...]:
    return (
        level.rows.float().numpy().reshape(-1),
        level.seen.float().numpy(),
        level.cameras.numpy(),
        level.camera_of.numpy(),
        level.points.numpy(),
        level.features.float().numpy(),
        level.confidence.float().numpy(),
    )


def _kernel(level: PackedLevel) -> tuple[tuple[int, np.float32, np.float32], np.float32]:
    kind, alpha, scale = p.kernel_numbers(level.kernel)
    unseen, _ = level.kernel(torch.tensor(UNRELATED))
    return (kind, _F(alpha), _F(scale)), _F(float(unseen))


def compile_now() -> None:
    """Align a point with nothing."""
    camera = Camera.from_colmap("PINHOLE", 16, 16, [16.0, 16.0, 8.0, 8.0]).to(torch.float32)
    problem = AlignmentProblem(
        QueryMap.of(torch.zeros(8, 16, 16), torch.zeros(16, 16)),
        camera,
        torch.tensor([[[0.0, 0.0, 1.0]]]),
        torch.zeros(1, 1, 8),
        torch.ones(1, 1),
        torch.ones(1, 1, dtype=torch.bool),
    )
    level, state = p.pack(problem), p.fresh_state(Pose.identity(1))
    optimize(level, state, torch.zeros(6), LMOptions(iterations=1))
    contributions(level, state)


def optimize(level: PackedLevel, state: Tensor, damping: Tensor, options: LMOptions) -> None:
    """Refine the hypotheses of the state (B, STATE) in place."""
    kernel, unseen = _kernel(level)
    tasks = -(-len(level.camera_of) // BLOCKS)
    partial = np.zeros((len(state), tasks, _SUMS), np.float32)
    with threads():
        _optimize(
            *_arrays(level), state.numpy(), damping.float().numpy(), kernel, unseen,
            options.iterations, _F(options.tolerance), options.reject_steps,
            options.min_points, partial,
        )  # fmt: skip


def contributions(level: PackedLevel, state: Tensor) -> Tensor:
    """What each point contributes at the poses of the state: (B, N, POINT)."""
    kernel, unseen = _kernel(level)
    tasks = -(-len(level.camera_of) // BLOCKS)
    asked = p.fresh_state(p.poses(state)).numpy()
    parts = np.zeros((len(state), len(level.points), _POINT), np.float32)
    partial = np.zeros((len(state), tasks, _SUMS), np.float32)
    with threads():
        _evaluate(*_arrays(level), asked, kernel, unseen, partial, parts)
    return torch.from_numpy(parts)
