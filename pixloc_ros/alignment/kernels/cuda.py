"""The fused step for GPUs, through Triton: two launches an iteration, no word to the host.

`_evaluate` sums the normal equations of every hypothesis at the pose it tries, a block of
points a program; `_advance` accepts or goes back, solves and tries the next pose, a hypothesis
a program. A hypothesis that is done costs an empty program. Sums are in a fixed order: the
same input gives the same bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pixloc_ros.alignment.kernels import packing as p
from pixloc_ros.alignment.kernels.packing import PackedLevel
from pixloc_ros.alignment.kernels.reference import UNRELATED
from pixloc_ros.alignment.problem import LMOptions
from pixloc_ros.geometry.lens import MIN_DEPTH, Lens

_C = tl.constexpr
_BLOCK, _POINT, _SUMS, _CAMERA, _STATE = map(_C, (p.BLOCK, p.POINT, p.SUMS, p.CAMERA, p.STATE))
_FOCAL, _CENTRE, _DISTORTION = map(_C, (p.FOCAL, p.CENTRE, p.DISTORTION))
_LIMIT, _LENS, _SHAPE, _FURTHER = map(_C, (p.LIMIT, p.LENS, p.SHAPE, p.FURTHER))
_COLUMNS, _ROWS, _FIRST = map(_C, (p.COLUMNS, p.ROWS, p.FIRST))
_EQUIDISTANT, _IN_TURN = map(_C, (int(Lens.EQUIDISTANT), int(Lens.EQUIDISTANT_IN_TURN)))
_FIELD_OF_VIEW, _DIVISION = map(_C, (int(Lens.FIELD_OF_VIEW), int(Lens.DIVISION)))
_UNIFIED = _C(int(Lens.UNIFIED))
_LOW, _HIGH, _MOUNT = map(_C, (p.LOW, p.HIGH, p.MOUNT))
_POSE, _TRIED, _HESSIAN, _GRADIENT = map(_C, (p.POSE, p.TRIED, p.HESSIAN, p.GRADIENT))
_COST, _BOOST, _DONE, _FAILED = map(_C, (p.COST, p.BOOST, p.DONE, p.FAILED))
_ITERATIONS, _SEEN, _FRESH = map(_C, (p.ITERATIONS, p.SEEN, p.FRESH))
_SUM_COST, _SUM_SEEN, _SUM_MOTION = map(_C, (p.SUM_COST, p.SUM_SEEN, p.SUM_MOTION))
_SUM_BOTH, _SUM_SHARE = map(_C, (p.SUM_BOTH, p.SUM_SHARE))
_HUBER, _SQUARED, _CAUCHY, _WELSCH = map(_C, (p.HUBER, p.SQUARED, p.CAUCHY, p.WELSCH))
_NEAR = _C(MIN_DEPTH)
_NEAR_SQ = _C(MIN_DEPTH**2)
_HUGE = _C(3e38)


@triton.jit
def _atan2(y, x):
    """Of y >= 0: Abramowitz and Stegun's series is too coarse, so halve the angle twice."""
    # tan(a / 2) = y / (x + hypot), twice, then the odd series of a small argument
    hypot = tl.sqrt(x * x + y * y)
    half = tl.where(x > 0, y / tl.maximum(x + hypot, 1e-30), (hypot - x) / tl.maximum(y, 1e-30))
    t = half / (1.0 + tl.sqrt(1.0 + half * half))
    t = t / (1.0 + tl.sqrt(1.0 + t * t))
    s = t * t
    series = 1.0 - s * (
        1.0 / 3 - s * (1.0 / 5 - s * (1.0 / 7 - s * (1.0 / 9 - s * (1.0 / 11 - s * (1.0 / 13)))))
    )
    return 8.0 * t * series


@triton.jit
def _flatten(camera, x, y, z, lens):
    """A point on the plane, the Jacobian by the point (six), and validity.

    As `geometry.lens.flatten`.
    """
    s0 = tl.load(camera + _SHAPE)
    s1 = tl.load(camera + _SHAPE + 1)
    if (lens == _EQUIDISTANT) | (lens == _IN_TURN):
        rho_sq = x * x + y * y
        on_axis = rho_sq < 1e-14 * tl.maximum(z * z, _NEAR_SQ)
        rho = tl.sqrt(tl.where(on_axis, 1.0, rho_sq))
        theta = tl.where(on_axis, 0.0, _atan2(rho, z))
        safe = tl.where(tl.abs(z) < _NEAR, _NEAR, z)
        ratio = tl.where(on_axis, 1.0 / safe, theta / rho)
        norm_sq = tl.maximum(rho_sq + z * z, _NEAR_SQ)
        bend = tl.where(on_axis, 0.0, (z / norm_sq - ratio) / (rho * rho))
        a = x * ratio
        b = y * ratio
        m00 = ratio + bend * x * x
        m01 = bend * x * y
        m02 = -x / norm_sq
        m10 = bend * x * y
        m11 = ratio + bend * y * y
        m12 = -y / norm_sq
        good = (norm_sq > _NEAR_SQ) & ((z > _NEAR) | (on_axis == 0))
    elif lens == _UNIFIED:
        away = tl.sqrt(tl.maximum(s1 * (x * x + y * y) + z * z, _NEAR_SQ))
        depth = s0 * away + (1.0 - s0) * z
        behind = tl.where(
            s0 <= 0.5, s0 / tl.maximum(1.0 - s0, 1e-6), (1.0 - s0) / tl.maximum(s0, 1e-6)
        )
        inverse = 1.0 / tl.maximum(depth, _NEAR)
        a = x * inverse
        b = y * inverse
        across = s0 * s1 / away
        along = s0 * z / away + 1.0 - s0
        m00 = (1.0 - a * across * x) * inverse
        m01 = -a * across * y * inverse
        m02 = -a * along * inverse
        m10 = -b * across * x * inverse
        m11 = (1.0 - b * across * y) * inverse
        m12 = -b * along * inverse
        good = (depth > _NEAR) & (z > -behind * away)
    else:
        inverse = 1.0 / tl.maximum(z, _NEAR)
        a = x * inverse
        b = y * inverse
        good = z > _NEAR
        u = a * a + b * b
        factor = tl.full(u.shape, 1.0, tl.float32)
        slope = tl.full(u.shape, 0.0, tl.float32)
        if lens == _FIELD_OF_VIEW:
            centred = u < 1e-12
            safe = tl.where(centred, 1.0, u)
            radius = tl.sqrt(safe)
            angle = _atan2(radius * s1, tl.full(u.shape, 1.0, tl.float32))
            factor = tl.where(centred, s1 / s0, angle / (radius * s0))
            slope = (s1 / (s0 * (1.0 + s1 * s1 * safe)) - factor) / (2.0 * safe)
            slope = tl.where(centred, 0.0, slope)
        if lens == _DIVISION:
            inside = 1.0 - 4.0 * s0 * u
            root = tl.sqrt(tl.maximum(inside, 1e-6))
            factor = 2.0 / (1.0 + root)
            slope = factor * factor * s0 / root
            good = good & (inside > 1e-6)
        xx = factor + 2.0 * slope * a * a
        xy = 2.0 * slope * a * b
        yy = factor + 2.0 * slope * b * b
        m00 = xx * inverse
        m01 = xy * inverse
        m02 = -(xx * a + xy * b) * inverse
        m10 = xy * inverse
        m11 = yy * inverse
        m12 = -(xy * a + yy * b) * inverse
        a = a * factor
        b = b * factor
    return a, b, m00, m01, m02, m10, m11, m12, good


@triton.jit
def _project(camera, x, y, z, lens):
    """Pixels, the Jacobian by the point (six), and validity.

    As `geometry.distortion.distort` on what the lens gave.
    """
    a, b, m00, m01, m02, m10, m11, m12, good = _flatten(camera, x, y, z, lens)
    c = camera + _DISTORTION
    k1 = tl.load(c)
    k2 = tl.load(c + 1)
    p1 = tl.load(c + 2)
    p2 = tl.load(c + 3)
    k3 = tl.load(c + 4)
    further = tl.load(camera + _FURTHER) > 0.0
    u = a * a + b * b
    radial = 1.0 + u * (k1 + u * (k2 + u * k3))
    slope = k1 + u * (2.0 * k2 + u * 3.0 * k3)
    if further:
        k4 = tl.load(c + 5)
        k5 = tl.load(c + 6)
        k6 = tl.load(c + 7)
        n4 = tl.load(c + 12)
        n5 = tl.load(c + 13)
        n6 = tl.load(c + 14)
        high = u * u * u
        upper = radial + high * u * (n4 + u * (n5 + u * n6))
        lower = 1.0 + u * (k4 + u * (k5 + u * k6))
        radial = upper / lower
        growth = slope + high * (4.0 * n4 + u * (5.0 * n5 + u * 6.0 * n6))
        slope = (growth - radial * (k4 + u * (2.0 * k5 + u * 3.0 * k6))) / lower
    rxx = radial + 2.0 * a * a * slope
    rxy = 2.0 * a * b * slope
    ryy = radial + 2.0 * b * b * slope
    dx = a * radial
    dy = b * radial
    in_turn = lens == _IN_TURN
    qx = tl.where(in_turn, dx, a)
    qy = tl.where(in_turn, dy, b)
    v = qx * qx + qy * qy
    axx = 2.0 * p1 * qy + 6.0 * p2 * qx
    axy = 2.0 * (p1 * qx + p2 * qy)
    ayx = axy
    ayy = 2.0 * p2 * qx + 6.0 * p1 * qy
    dx = dx + 2.0 * p1 * qx * qy + p2 * (v + 2.0 * qx * qx)
    dy = dy + 2.0 * p2 * qx * qy + p1 * (v + 2.0 * qy * qy)
    if further:
        s1 = tl.load(c + 8)
        s2 = tl.load(c + 9)
        s3 = tl.load(c + 10)
        s4 = tl.load(c + 11)
        prism_x = 2.0 * (s1 + 2.0 * s2 * v)
        prism_y = 2.0 * (s3 + 2.0 * s4 * v)
        axx = axx + prism_x * qx
        axy = axy + prism_x * qy
        ayx = ayx + prism_y * qx
        ayy = ayy + prism_y * qy
        dx = dx + v * (s1 + s2 * v)
        dy = dy + v * (s3 + s4 * v)
    jxx = rxx + tl.where(in_turn, axx * rxx + axy * rxy, axx)
    jxy = rxy + tl.where(in_turn, axx * rxy + axy * ryy, axy)
    jyx = rxy + tl.where(in_turn, ayx * rxx + ayy * rxy, ayx)
    jyy = ryy + tl.where(in_turn, ayx * rxy + ayy * ryy, ayy)
    fx = tl.load(camera + _FOCAL)
    fy = tl.load(camera + _FOCAL + 1)
    tx = dx
    ty = dy
    xx = fx * jxx
    xy = fx * jxy
    yx = fy * jyx
    yy = fy * jyy
    if further:
        t00 = tl.load(c + 15)
        t01 = tl.load(c + 16)
        t10 = tl.load(c + 17)
        t11 = tl.load(c + 18)
        t20 = tl.load(c + 19)
        t21 = tl.load(c + 20)
        below = 1.0 / (1.0 + t20 * dx + t21 * dy)
        tx = (dx + t00 * dx + t01 * dy) * below
        ty = (dy + t10 * dx + t11 * dy) * below
        hxx = fx * (1.0 + t00 - tx * t20) * below
        hxy = fx * (t01 - tx * t21) * below
        hyx = fy * (t10 - ty * t20) * below
        hyy = fy * (1.0 + t11 - ty * t21) * below
        xx = hxx * jxx + hxy * jyx
        xy = hxx * jxy + hxy * jyy
        yx = hyx * jxx + hyy * jyx
        yy = hyx * jxy + hyy * jyy
    cell_u = tx * fx + tl.load(camera + _CENTRE)
    cell_v = ty * fy + tl.load(camera + _CENTRE + 1)
    low = tl.load(camera + _LOW)
    good = good & (u < tl.load(camera + _LIMIT)) & (cell_u >= low) & (cell_v >= low)
    good = good & (cell_u <= tl.load(camera + _HIGH)) & (cell_v <= tl.load(camera + _HIGH + 1))
    return (
        cell_u,
        cell_v,
        xx * m00 + xy * m10,
        xx * m01 + xy * m11,
        xx * m02 + xy * m12,
        yx * m00 + yy * m10,
        yx * m01 + yy * m11,
        yx * m02 + yy * m12,
        good,
    )


@triton.jit
def _moved(matrix, x, y, z):
    """The affine map whose rotation (9) and translation (3) lie at a pointer."""
    a = tl.load(matrix) * x + tl.load(matrix + 1) * y + tl.load(matrix + 2) * z
    b = tl.load(matrix + 3) * x + tl.load(matrix + 4) * y + tl.load(matrix + 5) * z
    c = tl.load(matrix + 6) * x + tl.load(matrix + 7) * y + tl.load(matrix + 8) * z
    return a + tl.load(matrix + 9), b + tl.load(matrix + 10), c + tl.load(matrix + 11)


@triton.jit
def _robust(squared, kind: tl.constexpr, alpha: tl.constexpr, scale: tl.constexpr):
    area: tl.constexpr = scale * scale
    x = squared / area
    if kind == _CAUCHY:
        cost = 2.0 * tl.log(1.0 + x / 2.0)
        weight = 1.0 / (1.0 + x / 2.0)
    elif kind == _SQUARED:
        cost = x
        weight = tl.full(x.shape, 1.0, tl.float32)
    elif kind == _HUBER:
        root = tl.sqrt(tl.maximum(x, 1.0))
        cost = tl.where(x <= 1.0, x, 2.0 * root - 1.0)
        weight = 1.0 / root
    elif kind == _WELSCH:
        weight = tl.exp(-x / 2.0)
        cost = 2.0 * (1.0 - weight)
    else:
        b: tl.constexpr = 2.0 - alpha if alpha < 2.0 else alpha - 2.0
        inner = tl.log(1.0 + x / b)
        cost = 2.0 * b / alpha * (tl.exp(inner * (alpha / 2.0)) - 1.0)
        weight = tl.exp(inner * (alpha / 2.0 - 1.0))
    return cost * area, weight


@triton.jit
def _cell(rows, column, row, columns, height, first, channel, good, channels: tl.constexpr):
    """Features (points, channels) of a cell; outside of the map zero."""
    inside = good & (column >= 0) & (column < columns) & (row >= 0) & (row < height)
    at = first + row * columns + column
    pointer = rows + at.to(tl.int64)[:, None] * channels + channel[None, :]
    mask = inside[:, None] & (channel < channels)[None, :]
    return tl.load(pointer, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _put(total, column, index: tl.constexpr, value):
    return total + tl.where(column[None, :] == index, value[:, None], 0.0)


@triton.jit
def _evaluate(
    rows, seen, cameras, camera_of, points, features, confidence, state, partial, parts,
    unseen,
    channels: tl.constexpr, wide: tl.constexpr,
    kind: tl.constexpr, alpha: tl.constexpr, scale: tl.constexpr, keep: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    blocks = tl.num_programs(0)
    hypothesis = tl.program_id(1)
    state += hypothesis * _STATE
    if (tl.load(state + _DONE) > 0.0) | (tl.load(state + _FAILED) > 0.0):
        return
    camera = cameras + tl.load(camera_of + block) * _CAMERA
    n = block * _BLOCK + tl.arange(0, _BLOCK)
    px = tl.load(points + 3 * n)
    py = tl.load(points + 3 * n + 1)
    pz = tl.load(points + 3 * n + 2)
    own = tl.load(confidence + n).to(tl.float32)
    real = own >= 0.0
    own = tl.where(real, own, 0.0)
    mount = camera + _MOUNT
    lens = tl.load(camera + _LENS).to(tl.int32)

    rx, ry, rz = _moved(state + _TRIED, px, py, pz)
    x, y, z = _moved(mount, rx, ry, rz)
    u, v, j00, j01, j02, j10, j11, j12, good = _project(camera, x, y, z, lens)
    good = good & real
    # a point that is not seen may be anywhere: its numbers stay out of the sums
    u = tl.where(good, u, 0.5)
    v = tl.where(good, v, 0.5)

    columns = tl.load(camera + _COLUMNS).to(tl.int32)
    height = tl.load(camera + _ROWS).to(tl.int32)
    first = tl.load(camera + _FIRST).to(tl.int32)
    base_x = tl.floor(u - 0.5)
    base_y = tl.floor(v - 0.5)
    fx = u - 0.5 - base_x
    fy = v - 0.5 - base_y
    cx = base_x.to(tl.int32)
    cy = base_y.to(tl.int32)
    channel = tl.arange(0, wide)

    # a row of cells at a time: its value along x, and for the middle two its slope
    wx = fx[:, None]
    wy = fy[:, None]
    left = _cell(rows, cx, cy - 1, columns, height, first, channel, good, channels)
    right = _cell(rows, cx + 1, cy - 1, columns, height, first, channel, good, channels)
    row = (1.0 - wx) * left + wx * right
    down = (wy - 1.0) * 0.5 * row
    far_left = _cell(rows, cx - 1, cy, columns, height, first, channel, good, channels)
    left = _cell(rows, cx, cy, columns, height, first, channel, good, channels)
    right = _cell(rows, cx + 1, cy, columns, height, first, channel, good, channels)
    far_right = _cell(rows, cx + 2, cy, columns, height, first, channel, good, channels)
    row = (1.0 - wx) * left + wx * right
    value = (1.0 - wy) * row
    down -= wy * 0.5 * row
    slope = (wx - 1.0) * far_left - wx * left + (1.0 - wx) * right + wx * far_right
    across = (1.0 - wy) * 0.5 * slope
    far_left = _cell(rows, cx - 1, cy + 1, columns, height, first, channel, good, channels)
    left = _cell(rows, cx, cy + 1, columns, height, first, channel, good, channels)
    right = _cell(rows, cx + 1, cy + 1, columns, height, first, channel, good, channels)
    far_right = _cell(rows, cx + 2, cy + 1, columns, height, first, channel, good, channels)
    row = (1.0 - wx) * left + wx * right
    value += wy * row
    down += (1.0 - wy) * 0.5 * row
    slope = (wx - 1.0) * far_left - wx * left + (1.0 - wx) * right + wx * far_right
    across += wy * 0.5 * slope
    left = _cell(rows, cx, cy + 2, columns, height, first, channel, good, channels)
    right = _cell(rows, cx + 1, cy + 2, columns, height, first, channel, good, channels)
    down += wy * 0.5 * ((1.0 - wx) * left + wx * right)

    known = tl.load(
        features + n[:, None] * channels + channel[None, :],
        mask=good[:, None] & (channel < channels)[None, :],
        other=0.0,
    ).to(tl.float32)
    residual = value - known
    gxx = tl.sum(across * across, 1)
    gxy = tl.sum(across * down, 1)
    gyy = tl.sum(down * down, 1)
    grx = tl.sum(across * residual, 1)
    gry = tl.sum(down * residual, 1)
    squared = tl.sum(residual * residual, 1)

    at = first + cy * columns + cx
    step_x = (cx + 1 < columns) & good
    step_y = (cy + 1 < height) & good
    c00 = tl.load(seen + at, mask=good, other=0.0).to(tl.float32)
    c01 = tl.load(seen + at + 1, mask=step_x, other=0.0).to(tl.float32)
    c10 = tl.load(seen + at + columns, mask=step_y, other=0.0).to(tl.float32)
    c11 = tl.load(seen + at + columns + 1, mask=step_x & step_y, other=0.0).to(tl.float32)
    theirs = (1.0 - fy) * ((1.0 - fx) * c00 + fx * c01) + fy * ((1.0 - fx) * c10 + fx * c11)
    both = tl.where(good, own * theirs, 0.0)
    cost, slope_of_cost = _robust(squared, kind, alpha, scale)
    weight = both * slope_of_cost
    cost = tl.where(good, cost, unseen)

    if keep:
        out = parts + (hypothesis * blocks * _BLOCK + n) * _POINT
        tl.store(out, u)
        tl.store(out + 1, v)
        tl.store(out + 2, tl.where(good, squared, 0.0))
        tl.store(out + 3, good.to(tl.float32))
        tl.store(out + 4, both)
        tl.store(out + 5, weight)

    # through the camera's place on the rig: cam_from_rig [I | -[X]_x]
    m0 = tl.load(mount)
    m1 = tl.load(mount + 1)
    m2 = tl.load(mount + 2)
    m3 = tl.load(mount + 3)
    m4 = tl.load(mount + 4)
    m5 = tl.load(mount + 5)
    m6 = tl.load(mount + 6)
    m7 = tl.load(mount + 7)
    m8 = tl.load(mount + 8)
    a0 = tl.where(good, j00 * m0 + j01 * m3 + j02 * m6, 0.0)
    a1 = tl.where(good, j00 * m1 + j01 * m4 + j02 * m7, 0.0)
    a2 = tl.where(good, j00 * m2 + j01 * m5 + j02 * m8, 0.0)
    b0 = tl.where(good, j10 * m0 + j11 * m3 + j12 * m6, 0.0)
    b1 = tl.where(good, j10 * m1 + j11 * m4 + j12 * m7, 0.0)
    b2 = tl.where(good, j10 * m2 + j11 * m5 + j12 * m8, 0.0)
    rx = tl.where(good, rx, 0.0)
    ry = tl.where(good, ry, 0.0)
    rz = tl.where(good, rz, 0.0)
    a3 = a2 * ry - a1 * rz
    a4 = a0 * rz - a2 * rx
    a5 = a1 * rx - a0 * ry
    b3 = b2 * ry - b1 * rz
    b4 = b0 * rz - b2 * rx
    b5 = b1 * rx - b0 * ry
    wxx = weight * gxx
    wxy = weight * gxy
    wyy = weight * gyy
    column = tl.arange(0, _SUMS)
    total = tl.zeros((_BLOCK, _SUMS), tl.float32)
    g = wxx * a0 + wxy * b0
    h = wxy * a0 + wyy * b0
    total = _put(total, column, 0, g * a0 + h * b0)
    total = _put(total, column, 1, g * a1 + h * b1)
    total = _put(total, column, 2, g * a2 + h * b2)
    total = _put(total, column, 3, g * a3 + h * b3)
    total = _put(total, column, 4, g * a4 + h * b4)
    total = _put(total, column, 5, g * a5 + h * b5)
    g = wxx * a1 + wxy * b1
    h = wxy * a1 + wyy * b1
    total = _put(total, column, 6, g * a1 + h * b1)
    total = _put(total, column, 7, g * a2 + h * b2)
    total = _put(total, column, 8, g * a3 + h * b3)
    total = _put(total, column, 9, g * a4 + h * b4)
    total = _put(total, column, 10, g * a5 + h * b5)
    g = wxx * a2 + wxy * b2
    h = wxy * a2 + wyy * b2
    total = _put(total, column, 11, g * a2 + h * b2)
    total = _put(total, column, 12, g * a3 + h * b3)
    total = _put(total, column, 13, g * a4 + h * b4)
    total = _put(total, column, 14, g * a5 + h * b5)
    g = wxx * a3 + wxy * b3
    h = wxy * a3 + wyy * b3
    total = _put(total, column, 15, g * a3 + h * b3)
    total = _put(total, column, 16, g * a4 + h * b4)
    total = _put(total, column, 17, g * a5 + h * b5)
    g = wxx * a4 + wxy * b4
    h = wxy * a4 + wyy * b4
    total = _put(total, column, 18, g * a4 + h * b4)
    total = _put(total, column, 19, g * a5 + h * b5)
    total = _put(total, column, 20, (wxx * a5 + wxy * b5) * a5 + (wxy * a5 + wyy * b5) * b5)
    ex = weight * grx
    ey = weight * gry
    total = _put(total, column, 21, ex * a0 + ey * b0)
    total = _put(total, column, 22, ex * a1 + ey * b1)
    total = _put(total, column, 23, ex * a2 + ey * b2)
    total = _put(total, column, 24, ex * a3 + ey * b3)
    total = _put(total, column, 25, ex * a4 + ey * b4)
    total = _put(total, column, 26, ex * a5 + ey * b5)

    rx, ry, rz = _moved(state + _POSE, px, py, pz)
    x, y, z = _moved(mount, rx, ry, rz)
    old_u, old_v, j00, j01, j02, j10, j11, j12, before = _project(camera, x, y, z, lens)
    before = before & good
    motion = tl.where(before, (u - old_u) * (u - old_u) + (v - old_v) * (v - old_v), 0.0)
    total = _put(total, column, _SUM_COST, cost * own)
    total = _put(total, column, _SUM_SEEN, good.to(tl.float32))
    total = _put(total, column, _SUM_MOTION, motion)
    total = _put(total, column, _SUM_BOTH, before.to(tl.float32))
    total = _put(total, column, _SUM_SHARE, own)
    tl.store(partial + (hypothesis * blocks + block) * _SUMS + column, tl.sum(total, 0))


@triton.jit
def _factor(pivot, good):
    """Square root of a pivot; good is lost where it is not positive."""
    good = good & (pivot > 0.0) & (pivot < _HUGE)
    root = tl.sqrt(tl.where(good, pivot, 1.0))
    return root, good


@triton.jit
def _damped(index, diagonal, damping, boost):
    return diagonal + tl.maximum(diagonal * tl.load(damping + index) * boost, 1e-6)


@triton.jit
def _exponential(s):
    """(sin a) / a and (1 - cos a) / a^2 of the squared angle s."""
    small = s < 1e-2
    angle = tl.sqrt(tl.where(small, 1.0, s))
    half = tl.sin(angle / 2.0)
    sine = tl.where(
        small, 1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0)), tl.sin(angle) / angle
    )
    turn = tl.where(
        small,
        0.5 - s / 24.0 * (1.0 - s / 30.0 * (1.0 - s / 56.0)),
        2.0 * half * half / (angle * angle),
    )
    return sine, turn


@triton.jit
def _turned(x, y, z, a, b, c, sine, turn):
    """exp([a b c]_x) of a vector."""
    p = b * z - c * y
    q = c * x - a * z
    r = a * y - b * x
    return (
        x + sine * p + turn * (b * r - c * q),
        y + sine * q + turn * (c * p - a * r),
        z + sine * r + turn * (a * q - b * p),
    )


@triton.jit
def _advance(
    state, partial, damping, blocks, tolerance, least,
    room: tl.constexpr, rounds: tl.constexpr, reject: tl.constexpr, last: tl.constexpr,
):  # fmt: skip
    hypothesis = tl.program_id(0)
    state += hypothesis * _STATE
    if (tl.load(state + _DONE) > 0.0) | (tl.load(state + _FAILED) > 0.0):
        return
    column = tl.arange(0, _SUMS)
    number = tl.arange(0, room)
    partial += hypothesis * blocks * _SUMS
    total = tl.zeros((_SUMS,), tl.float32)
    for round_ in tl.static_range(rounds):
        part = round_ * room + number
        some = tl.load(
            partial + part[:, None] * _SUMS + column[None, :],
            mask=(part < blocks)[:, None],
            other=0.0,
        )
        total += tl.sum(some, 0)
    seen = tl.sum(tl.where(column == _SUM_SEEN, total, 0.0))
    motion = tl.sum(tl.where(column == _SUM_MOTION, total, 0.0))
    both = tl.sum(tl.where(column == _SUM_BOTH, total, 0.0))
    share = tl.sum(tl.where(column == _SUM_SHARE, total, 0.0))
    cost = tl.sum(tl.where(column == _SUM_COST, total, 0.0)) / tl.maximum(share, 1e-9)

    # absorb: take the system at the pose that was tried, or go back
    fresh = tl.load(state + _FRESH) > 0.0
    better = cost <= tl.load(state + _COST)
    boost = tl.load(state + _BOOST)
    if reject:
        take = fresh | better
        other = tl.where(better, boost / 3.0, boost * 10.0)
        boost = tl.where(fresh, boost, tl.minimum(tl.maximum(other, 1e-3), 1e6))
    else:
        take = fresh | (fresh == 0)
    settled = (tl.sqrt(motion / tl.maximum(both, 1.0)) < tolerance) & (fresh == 0)
    iterations = tl.load(state + _ITERATIONS) + tl.where(take & (fresh == 0), 1.0, 0.0)
    seen = tl.where(take, seen, tl.load(state + _SEEN))
    pose = tl.arange(0, 16)
    tried = tl.load(state + _TRIED + pose, mask=pose < 12, other=0.0)
    # all warps have read what is now written
    tl.debug_barrier()
    tl.store(state + _POSE + pose, tried, mask=pose < tl.where(take, 12, 0))
    tl.store(state + _HESSIAN + column, total, mask=column < tl.where(take, 27, 0))
    tl.store(state + _COST, tl.where(take, cost, tl.load(state + _COST)))
    tl.store(state + _SEEN, seen)
    tl.store(state + _BOOST, boost)
    tl.store(state + _ITERATIONS, iterations)
    tl.store(state + _FRESH, 0.0)
    tl.store(state + _DONE, tl.where(settled, 1.0, 0.0))
    tl.debug_barrier()
    if last:
        return
    if settled:
        return

    # propose: Cholesky of the damped system, column by column
    h = state + _HESSIAN
    d0 = _damped(0, tl.load(h), damping, boost)
    d1 = _damped(1, tl.load(h + 6), damping, boost)
    d2 = _damped(2, tl.load(h + 11), damping, boost)
    d3 = _damped(3, tl.load(h + 15), damping, boost)
    d4 = _damped(4, tl.load(h + 18), damping, boost)
    d5 = _damped(5, tl.load(h + 20), damping, boost)
    l00, good = _factor(d0, seen >= least)
    l10 = tl.load(h + 1) / l00
    l20 = tl.load(h + 2) / l00
    l30 = tl.load(h + 3) / l00
    l40 = tl.load(h + 4) / l00
    l50 = tl.load(h + 5) / l00
    l11, good = _factor(d1 - l10 * l10, good)
    l21 = (tl.load(h + 7) - l20 * l10) / l11
    l31 = (tl.load(h + 8) - l30 * l10) / l11
    l41 = (tl.load(h + 9) - l40 * l10) / l11
    l51 = (tl.load(h + 10) - l50 * l10) / l11
    l22, good = _factor(d2 - l20 * l20 - l21 * l21, good)
    l32 = (tl.load(h + 12) - l30 * l20 - l31 * l21) / l22
    l42 = (tl.load(h + 13) - l40 * l20 - l41 * l21) / l22
    l52 = (tl.load(h + 14) - l50 * l20 - l51 * l21) / l22
    l33, good = _factor(d3 - l30 * l30 - l31 * l31 - l32 * l32, good)
    l43 = (tl.load(h + 16) - l40 * l30 - l41 * l31 - l42 * l32) / l33
    l53 = (tl.load(h + 17) - l50 * l30 - l51 * l31 - l52 * l32) / l33
    l44, good = _factor(d4 - l40 * l40 - l41 * l41 - l42 * l42 - l43 * l43, good)
    l54 = (tl.load(h + 19) - l50 * l40 - l51 * l41 - l52 * l42 - l53 * l43) / l44
    rest = d5 - l50 * l50 - l51 * l51 - l52 * l52 - l53 * l53 - l54 * l54
    l55, good = _factor(rest, good)
    r = state + _GRADIENT
    y0 = -tl.load(r) / l00
    y1 = (-tl.load(r + 1) - l10 * y0) / l11
    y2 = (-tl.load(r + 2) - l20 * y0 - l21 * y1) / l22
    y3 = (-tl.load(r + 3) - l30 * y0 - l31 * y1 - l32 * y2) / l33
    y4 = (-tl.load(r + 4) - l40 * y0 - l41 * y1 - l42 * y2 - l43 * y3) / l44
    y5 = (-tl.load(r + 5) - l50 * y0 - l51 * y1 - l52 * y2 - l53 * y3 - l54 * y4) / l55
    e5 = y5 / l55
    e4 = (y4 - l54 * e5) / l44
    e3 = (y3 - l43 * e4 - l53 * e5) / l33
    e2 = (y2 - l32 * e3 - l42 * e4 - l52 * e5) / l22
    e1 = (y1 - l21 * e2 - l31 * e3 - l41 * e4 - l51 * e5) / l11
    e0 = (y0 - l10 * e1 - l20 * e2 - l30 * e3 - l40 * e4 - l50 * e5) / l00
    size = tl.abs(e0) + tl.abs(e1) + tl.abs(e2) + tl.abs(e3) + tl.abs(e4) + tl.abs(e5)
    good = good & (size < _HUGE)
    if good:
        sine, turn = _exponential(e3 * e3 + e4 * e4 + e5 * e5)
        x = state + _POSE
        t = state + _TRIED
        for k in tl.static_range(3):
            a, b, c = _turned(
                tl.load(x + k), tl.load(x + 3 + k), tl.load(x + 6 + k), e3, e4, e5, sine, turn
            )
            tl.store(t + k, a)
            tl.store(t + 3 + k, b)
            tl.store(t + 6 + k, c)
        a, b, c = _turned(tl.load(x + 9), tl.load(x + 10), tl.load(x + 11), e3, e4, e5, sine, turn)
        tl.store(t + 9, a + e0)
        tl.store(t + 10, b + e1)
        tl.store(t + 11, c + e2)
    else:
        tl.store(state + _FAILED, 1.0)


def _launch(level: PackedLevel, state: Tensor, partial: Tensor, parts: Tensor | None) -> None:
    channels = level.rows.shape[-1]
    kind, alpha, scale = p.kernel_numbers(level.kernel)
    unseen, _ = level.kernel(torch.tensor(UNRELATED))
    _evaluate[(len(level.camera_of), len(state))](
        level.rows, level.seen, level.cameras, level.camera_of, level.points, level.features,
        level.confidence, state, partial, state if parts is None else parts, float(unseen),
        channels=channels, wide=triton.next_power_of_2(channels), kind=kind, alpha=alpha,
        scale=scale, keep=parts is not None, num_warps=4,
    )  # fmt: skip


def optimize(level: PackedLevel, state: Tensor, damping: Tensor, options: LMOptions) -> None:
    """Refine the hypotheses of the state (B, STATE) in place, without waiting for the device."""
    blocks = len(level.camera_of)
    room = min(triton.next_power_of_2(blocks), 128)
    partial = state.new_empty(len(state), blocks, p.SUMS)
    for number in range(options.iterations + 1):
        _launch(level, state, partial, None)
        _advance[(len(state),)](
            state, partial, damping, blocks, float(options.tolerance),
            float(options.min_points), room=room, rounds=triton.cdiv(blocks, room),
            reject=options.reject_steps, last=number == options.iterations, num_warps=4,
        )  # fmt: skip


def contributions(level: PackedLevel, state: Tensor) -> Tensor:
    """What each point contributes at the poses of the state: (B, N, POINT)."""
    asked = p.fresh_state(p.poses(state))
    partial = state.new_empty(len(state), len(level.camera_of), p.SUMS)
    parts = state.new_empty(len(state), len(level.points), p.POINT)
    _launch(level, asked, partial, parts)
    return parts
