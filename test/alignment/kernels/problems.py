"""Random problems in single precision, as the fused kernels take them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from pixloc_ros.alignment import AlignmentProblem, QueryMap, RigProblem
from pixloc_ros.geometry import CAUCHY, SQUARED, Camera, Lens, Pose, RobustKernel, huber
from pixloc_ros.geometry.distortion import COEFFICIENTS, tilt

PERSPECTIVE = ("OPENCV", (70.0, 72.0, 40.5, 29.5, -0.05, 0.01, 1e-3, -1e-3))
RATIONAL = ("FULL_OPENCV", (70.0, 72.0, 40.5, 29.5, 0.1, 0.02, 0, 1e-3, 0.01, 0.1, 0.02, 0.01))
FISHEYE = ("OPENCV_FISHEYE", (50.0, 51.0, 40.0, 30.0, 0.01, 2e-3, 1e-3, 0.0))
PRISM = ("THIN_PRISM_FISHEYE", (*FISHEYE[1][:6], 1e-3, -2e-3, 3e-3, -1e-3, 2e-3, -1e-3))
ARIA = (
    "RAD_TAN_THIN_PRISM_FISHEYE",
    (*FISHEYE[1][:6], 3e-3, -1e-3, 2e-4, -1e-4, 1e-3, -2e-3, 2e-3, -1e-3, 1e-3, 5e-4),
)
FIELD_OF_VIEW = ("FOV", (60.0, 61.0, 40.0, 30.0, 0.9))
DIVISION = ("DIVISION", (70.0, 72.0, 40.5, 29.5, -0.1))
UNIFIED = ("EUCM", (50.0, 51.0, 40.0, 30.0, 0.6, 1.1))
TILTED = (
    "TILTED",
    (
        *(4.65, 1.35, 1e-4, 2e-4, 0.03, 4.98, 2.9, 0.26, 1e-3, -2e-4, 8e-4, 1e-4),
        *(0.006, -0.003),
    ),
)
LENSES = (
    *(PERSPECTIVE, RATIONAL, FISHEYE, PRISM, ARIA, FIELD_OF_VIEW, DIVISION, UNIFIED, TILTED),
)


def camera_of(lens, width, height):
    """TILTED: OpenCV's 14 coefficients, which COLMAP has no model for."""
    name, params = lens
    if name != "TILTED":
        return Camera.from_colmap(name, width, height, params)
    numbers = dict(zip(COEFFICIENTS[:12], params, strict=False)) | tilt(*params[12:])
    return Camera.of(Lens.PERSPECTIVE, (width, height), (70.0, 72.0), (40.5, 29.5), numbers)


ROBUST_KERNELS = {
    "cauchy": CAUCHY,
    "squared": SQUARED,
    "huber": huber(0.1),
    "welsch": RobustKernel(-math.inf, 0.2),
    "geman_mcclure": RobustKernel(-2.0, 0.2),
    "charbonnier": RobustKernel(1.0, 0.1),
}


def make_problem(
    lens=PERSPECTIVE, count=90, channels=16, seed=0, kernel=CAUCHY, half=False, pad=1.0
):
    """(problem, true pose): some points are masked, some lie outside of the view."""
    height, width = 60, 80
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, channels, height // 8, width // 8, generator=generator)
    dense = F.interpolate(coarse, size=(height, width), mode="bicubic")[0]
    dense = F.normalize(dense, dim=0)
    camera = camera_of(lens, width, height)
    pixels = torch.rand(count, 2, generator=generator).double()
    pixels = pixels * torch.tensor([width + 4.0, height + 4.0]) - 2
    rays, _ = camera.unproject(pixels)
    depth = 2 + 3 * torch.rand(count, 1, generator=generator).double()
    truth = Pose.exp(torch.tensor([0.1, -0.2, 0.3, 0.2, -0.1, 0.15], dtype=torch.float64))
    points = truth.inverse().transform(rays * depth).float()
    query = QueryMap.of(
        dense.half() if half else dense, torch.rand(height, width, generator=generator)
    )
    features = query.features.sample(pixels.float()) + 0.02 * torch.randn(
        count, channels, generator=generator
    )
    problem = AlignmentProblem(
        query,
        camera.to(torch.float32),
        points[None],
        F.normalize(features, dim=-1)[None],
        0.3 + 0.7 * torch.rand(1, count, generator=generator),
        torch.rand(1, count, generator=generator) > 0.1,
        kernel,
        pad,
    )
    return problem, truth


def make_rig():
    """Two unlike cameras, the second turned by half a radian and set aside."""
    first, truth = make_problem(seed=1)
    second, _ = make_problem(FISHEYE, count=50, seed=2)
    mount = Pose.from_rotvec(torch.tensor([0.0, 0.5, 0.1]), torch.tensor([0.2, 0.0, -0.1]))
    identity = Pose.identity()
    # its points where the turned camera sees them
    points = (
        (mount @ truth.to(torch.float32))
        .inverse()
        .transform(truth.to(torch.float32).transform(second.points))
    )
    moved = AlignmentProblem(
        second.query, second.camera, points, second.features, second.confidence, second.mask
    )
    return RigProblem((first, moved), (identity, mount)), truth


def starts(truth, count, size=0.03):
    generator = torch.Generator().manual_seed(9)
    delta = size * torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return Pose.stack([truth] * count).perturb(delta).to(torch.float32)
