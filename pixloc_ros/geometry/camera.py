"""Camera models of COLMAP, batched and differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixloc_ros.errors import InputError
from pixloc_ros.geometry.distortion import brown, brown_limit, fisheye_limit, fisheye_radius
from pixloc_ros.geometry.tensor_fields import TensorFields

MIN_DEPTH = 1e-3
"""Points nearer to the camera plane than this (map units) do not project."""

# where each COLMAP parameter goes: indices into (fx, fy, cx, cy, coefficients...)
_LAYOUT: dict[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
    "OPENCV_FISHEYE": ("fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4"),
    "FULL_OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
}
_BROWN = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_FISHEYE = ("k1", "k2", "k3", "k4")

MODELS = tuple(_LAYOUT)


class CameraError(InputError):
    """The intrinsics cannot be those of a camera."""


@dataclass(frozen=True)
class Camera(TensorFields):
    """A batch of cameras of one kind (perspective or fisheye).

    Pixels follow COLMAP: the centre of the top-left pixel is (0.5, 0.5), so the image spans
    [0, width] x [0, height] and scaling an image scales every coordinate.

    size: (..., 2) width and height in pixels. focal, centre: (..., 2) pixels.
    distortion: (..., 8) Brown or (..., 4) fisheye coefficients.
    limit: (...,) largest squared radius (Brown) or angle (fisheye) that projects.
    """

    fisheye: bool
    size: Tensor
    focal: Tensor
    centre: Tensor
    distortion: Tensor
    limit: Tensor

    _event_dims: ClassVar[dict[str, int]] = {
        "size": 1,
        "focal": 1,
        "centre": 1,
        "distortion": 1,
        "limit": 0,
    }

    @classmethod
    def from_colmap(
        cls,
        model: str,
        width: float,
        height: float,
        params: Sequence[float] | np.ndarray,
        dtype: torch.dtype = torch.float64,
    ) -> Camera:
        """One camera from COLMAP's model name, image size in pixels and parameters.

        Raises CameraError for an unknown model, a wrong count, or impossible numbers.
        """
        if model not in _LAYOUT:
            raise CameraError(f"unknown camera model {model!r}; known: {', '.join(MODELS)}")
        values = np.asarray(params, np.float64).ravel()
        names = _LAYOUT[model]
        if values.size != len(names):
            raise CameraError(f"{model} has {len(names)} parameters, {values.size} were given")
        if not (np.isfinite(values).all() and np.isfinite([width, height]).all()):
            raise CameraError(f"{model} parameters are not finite: {values.tolist()}")
        if width <= 0 or height <= 0:
            raise CameraError(f"image size {width:g} x {height:g} is not positive")
        if max(np.abs(values).max(), width, height) > 1e7:
            raise CameraError(f"{model} parameters are absurdly large: {values.tolist()}")
        named = dict(zip(names, values, strict=True))
        if "f" in named:
            named["fx"] = named["fy"] = named["f"]
        if named["fx"] < 1e-3 or named["fy"] < 1e-3:
            raise CameraError(f"focal length {named['fx']:g}, {named['fy']:g} is not positive")
        fisheye = model == "OPENCV_FISHEYE"
        coefficients = np.array([named.get(k, 0.0) for k in (_FISHEYE if fisheye else _BROWN)])
        limit = fisheye_limit(coefficients) if fisheye else brown_limit(coefficients)

        def tensor(*numbers: float) -> Tensor:
            return torch.tensor(numbers, dtype=dtype)

        return cls(
            fisheye=fisheye,
            size=tensor(width, height),
            focal=tensor(named["fx"], named["fy"]),
            centre=tensor(named["cx"], named["cy"]),
            distortion=tensor(*coefficients),
            limit=tensor(limit)[0],
        )

    NUMBERS: ClassVar[int] = 15

    def numbers(self) -> Tensor:
        """(..., NUMBERS): size, focal, centre, distortion (8, zero-filled), limit."""
        lens = F.pad(self.distortion, (0, 8 - self.distortion.shape[-1]))
        return torch.cat([self.size, self.focal, self.centre, lens, self.limit[..., None]], -1)

    @classmethod
    def from_numbers(cls, numbers: Tensor, fisheye: bool) -> Camera:
        """Inverse of `numbers`."""
        lens = numbers[..., 6 : 10 if fisheye else 14]
        size, focal, centre = (numbers[..., i : i + 2] for i in (0, 2, 4))
        return cls(fisheye, size, focal, centre, lens, numbers[..., 14])

    def scale(self, factor: float | Tensor | Sequence[float]) -> Camera:
        """The camera of the image resized by `factor` (scalar, or (..., 2) for x and y)."""
        s = torch.as_tensor(factor, dtype=self.dtype, device=self.device)
        return replace(self, size=self.size * s, focal=self.focal * s, centre=self.centre * s)

    def resize(self, width: int, height: int) -> Camera:
        """The camera of the image resized to exactly width x height pixels."""
        new = torch.tensor([width, height], dtype=self.dtype, device=self.device)
        scaled = self.scale(new / self.size)
        return replace(scaled, size=new.expand_as(scaled.size))

    def crop(self, left: float, top: float, width: float, height: float) -> Camera:
        """The camera of a window of the image, in pixels."""
        corner = torch.tensor([left, top], dtype=self.dtype, device=self.device)
        size = torch.tensor([width, height], dtype=self.dtype, device=self.device)
        return replace(self, size=size.expand_as(self.size), centre=self.centre - corner)

    def in_image(self, pixels: Tensor, border: float = 0.5) -> Tensor:
        """Whether pixels (..., N, 2) lie inside by `border` pixels: (..., N).

        The default keeps the four pixels that bilinear sampling needs inside the image.
        """
        limit = self.size[..., None, :] - border
        return ((pixels >= border) & (pixels <= limit)).all(-1)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (..., N, 2) and validity (..., N) of points (..., N, 3) in the camera frame.

        Valid: in front of the camera, within the range of the distortion, inside the image.
        """
        pixels, _, valid = self.project_with_jacobian(points)
        return pixels, valid

    def project_with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `project`, with d(pixels)/d(points): (..., N, 2, 3) between the two."""
        project = self._project_fisheye if self.fisheye else self._project_perspective
        plane, jacobian, valid = project(points)
        focal = self.focal[..., None, :]
        pixels = plane * focal + self.centre[..., None, :]
        return pixels, focal[..., None] * jacobian, valid & self.in_image(pixels)

    def _project_perspective(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = points[..., 2]
        inverse = 1 / z.clamp(min=MIN_DEPTH)
        flat = points[..., :2] * inverse[..., None]
        plane, through_lens = brown(flat, self.distortion[..., None, :])
        eye = torch.eye(2, dtype=points.dtype, device=points.device).expand(*flat.shape, 2)
        jacobian = through_lens @ torch.cat([eye, -flat[..., None]], -1)
        inside = (flat * flat).sum(-1) < self.limit[..., None]
        return plane, jacobian * inverse[..., None, None], (z > MIN_DEPTH) & inside

    def _project_fisheye(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, y, z = points.unbind(-1)
        rho_sq = x * x + y * y
        on_axis = rho_sq < 1e-14 * (z * z).clamp(min=MIN_DEPTH**2)
        rho = torch.where(on_axis, torch.ones_like(rho_sq), rho_sq).sqrt()
        theta = torch.where(on_axis, torch.zeros_like(rho), torch.atan2(rho, z))
        radius, slope = fisheye_radius(theta, self.distortion[..., None, :])
        safe_z = torch.where(z.abs() < MIN_DEPTH, torch.full_like(z, MIN_DEPTH), z)
        ratio = torch.where(on_axis, 1 / safe_z, radius / rho)
        plane = points[..., :2] * ratio[..., None]
        norm_sq = (rho_sq + z * z).clamp(min=MIN_DEPTH**2)
        # d ratio / d (x, y) = (x, y) * bend; on the axis it vanishes with (x, y)
        bend = torch.where(
            on_axis, torch.zeros_like(z), (slope * z / norm_sq - ratio) / (rho * rho)
        )
        xy = points[..., :2]
        eye = torch.eye(2, dtype=points.dtype, device=points.device)
        left = ratio[..., None, None] * eye + bend[..., None, None] * (
            xy[..., :, None] * xy[..., None, :]
        )
        right = -(slope / norm_sq)[..., None] * xy
        jacobian = torch.cat([left, right[..., None]], -1)
        valid = (theta < self.limit[..., None]) & (norm_sq > MIN_DEPTH**2)
        return plane, jacobian, valid & (~on_axis | (z > MIN_DEPTH))

    def unproject(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Unit rays (..., N, 3) in the camera frame and validity (..., N) of pixels (..., N, 2).

        Inverts the distortion by Newton's method; a pixel that no ray reaches is invalid.
        """
        plane = (pixels - self.centre[..., None, :]) / self.focal[..., None, :]
        if self.fisheye:
            return self._unproject_fisheye(plane)
        coefficients = self.distortion[..., None, :]

        def newton(guess: Tensor) -> Tensor:
            value, jacobian = brown(guess, coefficients)
            a, b = jacobian[..., 0, 0], jacobian[..., 0, 1]
            c, d = jacobian[..., 1, 0], jacobian[..., 1, 1]
            error = plane - value
            determinant = a * d - b * c
            determinant = torch.where(
                determinant.abs() < 1e-9, torch.full_like(determinant, 1e-9), determinant
            )
            step = torch.stack(
                [
                    d * error[..., 0] - b * error[..., 1],
                    a * error[..., 1] - c * error[..., 0],
                ],
                -1,
            )
            return guess + step / determinant[..., None]

        with torch.no_grad():
            flat = plane.detach()
            for _ in range(15):
                # half the radius of the limit is always on the growing branch
                flat = torch.where(
                    ((flat * flat).sum(-1) < self.limit[..., None])[..., None], flat, flat * 0.5
                )
                flat = newton(flat)
            back, _ = brown(flat, coefficients)
            tolerance = 1e-4 if pixels.dtype == torch.float32 else 1e-8
            valid = ((back - plane).abs().amax(-1) < tolerance) & (
                (flat * flat).sum(-1) < self.limit[..., None]
            )
        flat = newton(flat)  # the step that carries the gradient
        rays = torch.cat([flat, torch.ones_like(flat[..., :1])], -1)
        return rays / rays.norm(dim=-1, keepdim=True), valid

    def _unproject_fisheye(self, plane: Tensor) -> tuple[Tensor, Tensor]:
        radius_sq = (plane * plane).sum(-1)
        centred = radius_sq < 1e-16
        radius = torch.where(centred, torch.ones_like(radius_sq), radius_sq).sqrt()
        coefficients = self.distortion[..., None, :]
        limit = self.limit[..., None]

        def newton(theta: Tensor) -> Tensor:
            value, slope = fisheye_radius(theta, coefficients)
            return theta + (radius - value) / slope.clamp(min=1e-6)

        with torch.no_grad():
            theta = radius.detach().clamp(max=1.5)
            for _ in range(20):
                theta = torch.minimum(newton(theta).clamp(min=0), limit)
            tolerance = 1e-4 if plane.dtype == torch.float32 else 1e-8
            value, _ = fisheye_radius(theta, coefficients)
            valid = ((value - radius).abs() < tolerance) & (theta < limit)
        theta = newton(theta)
        side = torch.where(
            centred[..., None], plane, plane / radius[..., None] * theta.sin()[..., None]
        )
        forward = torch.where(centred, torch.ones_like(theta), theta.cos())
        return torch.cat([side, forward[..., None]], -1), valid | centred
