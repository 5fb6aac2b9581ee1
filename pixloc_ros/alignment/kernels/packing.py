"""One level of alignment as flat arrays: what the fused kernels read and write.

Points come in blocks of one camera each, padded with points that count for nothing. A
hypothesis is one row of numbers, `STATE`, that stays where the kernels run from the first
iteration to the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pixloc_ros.alignment.problem import AlignmentProblem, LinearSystem, RigProblem
from pixloc_ros.geometry import Camera, Pose, RobustKernel
from pixloc_ros.geometry.distortion import COUNT, PLAIN

BLOCK = 16
"""Points of one block."""

PADDING = -1.0
"""Reference confidence of a point that is not one."""

# a row of `cameras`: focal, centre, distortion, limit, lens, its shape, columns, rows, first row
# of the table, lower bounds of pixels, upper bounds, cam_from_rig (rotation, translation), whether
# there are coefficients beyond the plain ones
CAMERA = 48
FOCAL, CENTRE, DISTORTION, LIMIT, LENS, SHAPE, COLUMNS, ROWS, FIRST, LOW, HIGH, MOUNT, FURTHER = (
    0, 2, 4, 25, 26, 27, 29, 30, 31, 32, 33, 35, 47,
)  # fmt: skip

# a row of the state: pose, the pose that is tried, upper triangle of H, g, and scalars
STATE = 64
POSE, TRIED, HESSIAN, GRADIENT = 0, 12, 24, 45
COST, BOOST, DONE, FAILED, ITERATIONS, SEEN, FRESH = 51, 52, 53, 54, 55, 56, 57

# a row of sums over points: upper triangle of H, g, and scalars
SUMS = 32
SUM_COST, SUM_SEEN, SUM_MOTION, SUM_BOTH, SUM_SHARE = 27, 28, 29, 30, 31

# a row of what a point contributed
POINT = 6

UPPER = tuple((i, j) for i in range(6) for j in range(i, 6))

HUBER, SQUARED, CAUCHY, WELSCH, GENERAL = range(5)


def kernel_numbers(kernel: RobustKernel) -> tuple[int, float, float]:
    """Kind, alpha and scale."""
    if kernel.alpha is None:
        return HUBER, 1.0, kernel.scale
    kinds = {2.0: SQUARED, 0.0: CAUCHY, -math.inf: WELSCH}
    kind = kinds.get(kernel.alpha, GENERAL)
    return kind, kernel.alpha if kind == GENERAL else 1.0, kernel.scale


@dataclass(frozen=True)
class PackedLevel:
    """rows: (cells, C) of all cameras' maps, single or half precision; seen: (cells,) their
    confidence. cameras: (K, CAMERA). camera_of: (N / BLOCK,) int32. points: (N, 3); features:
    (N, C); confidence: (N,), PADDING where there is no point. sizes: points of each camera.
    """

    rows: Tensor
    seen: Tensor
    cameras: Tensor
    camera_of: Tensor
    points: Tensor
    features: Tensor
    confidence: Tensor
    sizes: tuple[int, ...]
    kernel: RobustKernel

    def system(self, state: Tensor, contributions: Tensor) -> LinearSystem:
        """From the state (B, STATE) and each point's part (B, N, POINT)."""
        hessian = state.new_zeros(len(state), 6, 6)
        upper = torch.triu_indices(6, 6, device=state.device)
        triangle = state[:, HESSIAN : HESSIAN + len(UPPER)]
        hessian[:, upper[0], upper[1]] = triangle
        hessian[:, upper[1], upper[0]] = triangle
        begin, parts = 0, []
        for size in self.sizes:
            parts.append(contributions[:, begin : begin + size])
            begin += padded(size)
        points = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return LinearSystem(
            hessian=hessian,
            gradient=state[:, GRADIENT : GRADIENT + 6],
            cost=state[:, COST],
            pixels=points[..., :2],
            squared=points[..., 2],
            valid=points[..., 3] > 0,
            confidence=points[..., 4],
            weight=points[..., 5],
        )


def padded(count: int) -> int:
    return -(-count // BLOCK) * BLOCK


def camera_row(
    camera: Camera, columns: int, rows: int, first: int, pad: float, cam_from_rig: Pose | None
) -> Tensor:
    """One row (CAMERA,) of `PackedLevel.cameras`; camera: batch shape ().

    Nothing is read from the device and no number copied to it one by one, so that a GPU can
    record this.
    """
    row = camera.focal.new_zeros(CAMERA)
    row[FOCAL : FOCAL + 2], row[CENTRE : CENTRE + 2] = camera.focal, camera.centre
    row[DISTORTION : DISTORTION + COUNT] = camera.distortion
    row[LIMIT] = camera.limit
    row[SHAPE : SHAPE + 2] = camera.shape_of_lens
    row[FURTHER] = camera.distortion[PLAIN:].ne(0).any()
    numbers = {LENS: int(camera.lens), COLUMNS: columns, ROWS: rows, FIRST: first, LOW: pad + 0.5}
    for place, number in numbers.items():
        row[place].fill_(number)
    row[HIGH] = (camera.size[0] - 0.5).clamp(max=columns - pad - 0.5)
    row[HIGH + 1] = (camera.size[1] - 0.5).clamp(max=rows - pad - 0.5)
    if cam_from_rig is None:
        row[MOUNT : MOUNT + 9 : 4].fill_(1.0)
    else:
        row[MOUNT : MOUNT + 9] = cam_from_rig.rotation.flatten()
        row[MOUNT + 9 : MOUNT + 12] = cam_from_rig.translation
    return row


def can_pack(problem: AlignmentProblem | RigProblem, start: Pose, damping: Tensor) -> bool:
    """Whether the fused kernels know this: single precision, shared points, no gradients."""
    parts = problem.problems if isinstance(problem, RigProblem) else (problem,)
    if start.dtype != torch.float32 or len(start.shape) != 1:
        return False
    for part in parts:
        table = part.query.features
        confidence = part.query.confidence.rows
        tensors = (start.rotation, damping, table.rows, confidence, part.features)
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            return False
        shared = part.points.shape[0] == part.features.shape[0] == part.confidence.shape[0] == 1
        plain = part.camera.shape == () and not table.batched
        if not (shared and plain and part.points.shape[1]) or part.pad < 0:
            return False
        if part.points.dtype != torch.float32 or table.rows.dtype not in (
            torch.float32,
            torch.float16,
        ):
            return False
    return True


def pack(problem: AlignmentProblem | RigProblem) -> PackedLevel:
    """Lay a level out; one camera's map is taken as it is, those of several are joined."""
    parts: tuple[AlignmentProblem, ...]
    mounts: tuple[Pose | None, ...]
    if isinstance(problem, RigProblem):
        parts, mounts = problem.problems, problem.cam_from_rig
    else:
        parts, mounts = (problem,), (None,)
    cameras, first = [], 0
    for part, mount in zip(parts, mounts, strict=True):
        table = part.query.features
        cameras.append(camera_row(part.camera, table.width, table.height, first, part.pad, mount))
        first += len(table.rows)
    sizes = tuple(part.points.shape[1] for part in parts)
    device = parts[0].points.device
    camera_of = [
        torch.full((padded(size) // BLOCK,), number, dtype=torch.int32, device=device)
        for number, size in enumerate(sizes)
    ]
    confidence = [
        torch.where(p.mask[0], p.confidence[0], torch.full_like(p.confidence[0], PADDING))
        for p in parts
    ]
    return PackedLevel(
        rows=_joined([p.query.features.rows for p in parts]),
        seen=_joined([p.query.confidence.rows[:, 0] for p in parts]),
        cameras=torch.stack(cameras).float(),
        camera_of=torch.cat(camera_of),
        points=_joined([_fill(p.points[0], 0.0) for p in parts]),
        features=_joined([_fill(p.features[0], 0.0) for p in parts]),
        confidence=_joined([_fill(c, PADDING) for c in confidence]),
        sizes=sizes,
        kernel=parts[0].kernel,
    )


def fresh_state(start: Pose) -> Tensor:
    """State (B, STATE) of hypotheses (B,) that nothing was tried with."""
    flat = torch.cat([start.rotation.flatten(-2), start.translation], -1)
    state = flat.new_zeros(len(flat), STATE)
    state[:, POSE : POSE + 12] = flat
    state[:, TRIED : TRIED + 12] = flat
    state[:, BOOST] = 1.0
    state[:, FRESH] = 1.0
    return state


def poses(state: Tensor) -> Pose:
    return Pose(
        state[:, POSE : POSE + 9].reshape(-1, 3, 3).contiguous(),
        state[:, POSE + 9 : POSE + 12].contiguous(),
    )


def _fill(values: Tensor, filling: float) -> Tensor:
    missing = padded(len(values)) - len(values)
    if missing == 0:
        return values.contiguous()
    return F.pad(values, (*[0, 0] * (values.dim() - 1), 0, missing), value=filling)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0].contiguous() if len(parts) == 1 else torch.cat(list(parts))
