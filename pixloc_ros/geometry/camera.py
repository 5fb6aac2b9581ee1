"""Camera models of COLMAP, OpenCV and ROS, batched and differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.errors import InputError
from pixloc_ros.geometry.distortion import COEFFICIENTS, COUNT, distort, radial_limit
from pixloc_ros.geometry.lens import SHAPE, Lens, flatten, unflatten
from pixloc_ros.geometry.tensor_fields import TensorFields

QUARTER_TURN = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""From the axes of a camera to those of one whose image `numpy.rot90` has turned."""

_FOUR = ("fx", "fy", "cx", "cy")
_THREE = ("f", "cx", "cy")

# what each of COLMAP's parameters is: f, fx, fy, cx, cy, a coefficient, or the lens' shape
_LAYOUT: dict[str, tuple[Lens, tuple[str, ...]]] = {
    "SIMPLE_PINHOLE": (Lens.PERSPECTIVE, _THREE),
    "PINHOLE": (Lens.PERSPECTIVE, _FOUR),
    "SIMPLE_RADIAL": (Lens.PERSPECTIVE, (*_THREE, "k1")),
    "RADIAL": (Lens.PERSPECTIVE, (*_THREE, "k1", "k2")),
    "OPENCV": (Lens.PERSPECTIVE, (*_FOUR, "k1", "k2", "p1", "p2")),
    "FULL_OPENCV": (
        Lens.PERSPECTIVE,
        (*_FOUR, "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    ),
    "SIMPLE_FISHEYE": (Lens.EQUIDISTANT, _THREE),
    "FISHEYE": (Lens.EQUIDISTANT, _FOUR),
    "SIMPLE_RADIAL_FISHEYE": (Lens.EQUIDISTANT, (*_THREE, "k1")),
    "RADIAL_FISHEYE": (Lens.EQUIDISTANT, (*_THREE, "k1", "k2")),
    "OPENCV_FISHEYE": (Lens.EQUIDISTANT, (*_FOUR, "k1", "k2", "k3", "n4")),
    "THIN_PRISM_FISHEYE": (
        Lens.EQUIDISTANT,
        (*_FOUR, "k1", "k2", "p1", "p2", "k3", "n4", "s1", "s3"),
    ),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        Lens.EQUIDISTANT_IN_TURN,
        (*_FOUR, "k1", "k2", "k3", "n4", "n5", "n6", "p2", "p1", "s1", "s2", "s3", "s4"),
    ),
    "FOV": (Lens.FIELD_OF_VIEW, (*_FOUR, "omega")),
    "SIMPLE_DIVISION": (Lens.DIVISION, (*_THREE, "k")),
    "DIVISION": (Lens.DIVISION, (*_FOUR, "k")),
    "EUCM": (Lens.UNIFIED, (*_FOUR, "alpha", "beta")),
}
_SHAPES = {
    Lens.FIELD_OF_VIEW: ("omega",),
    Lens.DIVISION: ("k",),
    Lens.UNIFIED: ("alpha", "beta"),
}

MODELS = tuple(_LAYOUT)

LEAST_OMEGA = 1e-4
"""Below it a field-of-view lens is taken for a perspective one, as it nearly is."""


class CameraError(InputError):
    """The intrinsics cannot be those of a camera."""


@dataclass(frozen=True)
class Camera(TensorFields):
    """A batch of cameras with one kind of lens.

    Pixels follow COLMAP: the centre of the top-left pixel is (0.5, 0.5), so the image spans
    [0, width] x [0, height] and scaling an image scales every coordinate.

    size: (..., 2) width and height in pixels. focal, centre: (..., 2) pixels.
    distortion: (..., COUNT) coefficients in the order of `distortion.COEFFICIENTS`.
    shape_of_lens: (..., SHAPE), see `Lens`.
    limit: (...,) largest squared radius on the plane (of an equidistant lens: squared angle)
    that projects.
    """

    lens: Lens
    size: Tensor
    focal: Tensor
    centre: Tensor
    distortion: Tensor
    shape_of_lens: Tensor
    limit: Tensor

    _event_dims: ClassVar[dict[str, int]] = {
        "size": 1,
        "focal": 1,
        "centre": 1,
        "distortion": 1,
        "shape_of_lens": 1,
        "limit": 0,
    }

    @property
    def fisheye(self) -> bool:
        """Whether the lens is an equidistant one."""
        return self.lens.equidistant

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
            raise CameraError(
                f"camera model {model!r} is not supported; supported: {', '.join(MODELS)}"
            )
        lens, names = _LAYOUT[model]
        values = np.asarray(params, np.float64).ravel()
        if values.size != len(names):
            raise CameraError(f"{model} has {len(names)} parameters, {values.size} were given")
        if not np.isfinite(values).all():
            raise CameraError(f"{model} parameters are not finite: {values.tolist()}")
        named = dict(zip(names, values.tolist(), strict=True))
        if "f" in named:
            named["fx"] = named["fy"] = named.pop("f")
        focal = (named.pop("fx"), named.pop("fy"))
        centre = (named.pop("cx"), named.pop("cy"))
        return cls.of(lens, (width, height), focal, centre, named, dtype)

    @classmethod
    def of(
        cls,
        lens: Lens,
        size: Sequence[float],
        focal: Sequence[float],
        centre: Sequence[float],
        numbers: Mapping[str, float] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> Camera:
        """One camera from its lens. size, focal, centre: two pixels each, COLMAP's.

        numbers: coefficients by the names of `distortion.COEFFICIENTS`, and what the lens'
        shape needs (omega, k, alpha, beta). Raises CameraError for impossible numbers.
        """
        given = dict(numbers or {})
        everything = np.array([*size, *focal, *centre, *given.values()], np.float64)
        if not np.isfinite(everything).all():
            raise CameraError(f"camera parameters are not finite: {everything.tolist()}")
        if min(size) <= 0:
            raise CameraError(f"image size {size[0]:g} x {size[1]:g} is not positive")
        if np.abs(everything).max() > 1e7:
            raise CameraError(f"camera parameters are absurdly large: {everything.tolist()}")
        if min(focal) < 1e-3:
            raise CameraError(f"focal length {focal[0]:g}, {focal[1]:g} is not positive")
        shape = _shape(lens, [given.pop(name) for name in _SHAPES.get(lens, ())])
        coefficients = np.array([given.pop(name, 0.0) for name in COEFFICIENTS])
        if given:
            raise CameraError(f"unknown coefficients {', '.join(given)}")
        limit = radial_limit(coefficients)
        if lens.equidistant:
            limit = min(limit, math.pi**2)

        def tensor(*numbers: float) -> Tensor:
            return torch.tensor(numbers, dtype=dtype)

        return cls(
            lens=lens,
            size=tensor(*size),
            focal=tensor(*focal),
            centre=tensor(*centre),
            distortion=tensor(*coefficients),
            shape_of_lens=tensor(*shape),
            limit=tensor(limit)[0],
        )

    def colmap(self) -> tuple[str, list[float]] | None:
        """COLMAP's model with the fewest parameters that is exactly this camera, and the
        parameters; None where COLMAP has none. Batch shape ().
        """
        focal, centre = self.focal.tolist(), self.centre.tolist()
        named = dict(zip(COEFFICIENTS, self.distortion.tolist(), strict=True))
        named |= dict(zip(_SHAPES.get(self.lens, ()), self.shape_of_lens.tolist(), strict=False))
        needed = {name for name, value in named.items() if value != 0.0}
        named |= {"fx": focal[0], "fy": focal[1], "cx": centre[0], "cy": centre[1]}
        for model, (lens, names) in _LAYOUT.items():
            if lens is self.lens and "f" not in names and needed <= set(names):
                return model, [named[name] for name in names]
        return None

    NUMBERS: ClassVar[int] = 7 + COUNT + SHAPE

    def numbers(self) -> Tensor:
        """(..., NUMBERS): size, focal, centre, limit, shape of the lens, distortion."""
        return torch.cat(
            [
                *(self.size, self.focal, self.centre, self.limit[..., None]),
                *(self.shape_of_lens, self.distortion),
            ],
            -1,
        )

    @classmethod
    def from_numbers(cls, numbers: Tensor, lens: Lens) -> Camera:
        """Inverse of `numbers`."""
        size, focal, centre = (numbers[..., i : i + 2] for i in (0, 2, 4))
        shape, coefficients = numbers[..., 7 : 7 + SHAPE], numbers[..., 7 + SHAPE :]
        return cls(lens, size, focal, centre, coefficients, shape, numbers[..., 6])

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

    def quarter_turn(self) -> Camera:
        """The camera of the image turned by 90 degrees counterclockwise, as `numpy.rot90` does.

        Its x is this one's y, and its y what was -x; see `QUARTER_TURN`.
        """
        turned = QUARTER_TURN[:2, :2].to(self.focal)
        numbers = dict(zip(COEFFICIENTS, self.distortion.unbind(-1), strict=True))
        for x, y in (("p2", "p1"), ("s1", "s3"), ("s2", "s4"), ("t20", "t21")):
            numbers[x], numbers[y] = numbers[y], -numbers[x]
        tilt = [[numbers["t00"], numbers["t01"]], [numbers["t10"], numbers["t11"]]]
        rows = torch.stack([torch.stack(row, -1) for row in tilt], -2)
        tilted = turned @ rows @ turned.T
        for row in (0, 1):
            for column in (0, 1):
                numbers[f"t{row}{column}"] = tilted[..., row, column]
        across, down = self.centre.unbind(-1)
        return replace(
            self,
            size=self.size.flip(-1),
            focal=self.focal.flip(-1),
            centre=torch.stack([down, self.size[..., 0] - across], -1),
            distortion=torch.stack(list(numbers.values()), -1),
        )

    def in_image(self, pixels: Tensor, border: float = 0.5) -> Tensor:
        """Whether pixels (..., N, 2) lie inside by `border` pixels: (..., N).

        The default keeps the four pixels that bilinear sampling needs inside the image.
        """
        limit = self.size[..., None, :] - border
        # a side at a time: reducing over two numbers costs more than comparing them
        inside = (pixels >= border) & (pixels <= limit)
        return inside[..., 0] & inside[..., 1]

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (..., N, 2) and validity (..., N) of points (..., N, 3) in the camera frame.

        Valid: in front of the camera, within the range of the distortion, inside the image.
        """
        pixels, _, valid = self._project(points)
        return pixels, valid

    def project_with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `project`, with d(pixels)/d(points): (..., N, 2, 3) between the two."""
        pixels, jacobian, valid = self._project(points)
        return pixels, jacobian(), valid

    def _project(self, points: Tensor) -> tuple[Tensor, Callable[[], Tensor], Tensor]:
        flat, onto_plane, valid = flatten(self.lens, points, self.shape_of_lens[..., None, :])
        x, y = flat.unbind(-1)
        valid = valid & (x * x + y * y < self.limit[..., None])
        plane, through = self._distort(flat)
        focal = self.focal[..., None, :]
        pixels = plane * focal + self.centre[..., None, :]
        valid = valid & self.in_image(pixels)
        return pixels, lambda: focal[..., None] * (through() @ onto_plane()), valid

    def _distort(self, flat: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        in_turn = self.lens is Lens.EQUIDISTANT_IN_TURN
        return distort(flat, self.distortion[..., None, :], in_turn)

    def unproject(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Unit rays (..., N, 3) in the camera frame and validity (..., N) of pixels (..., N, 2).

        Inverts the distortion by Newton's method; a pixel that no ray reaches is invalid.
        """
        plane = (pixels - self.centre[..., None, :]) / self.focal[..., None, :]

        def newton(guess: Tensor) -> Tensor:
            value, differentiated = self._distort(guess)
            jacobian = differentiated()
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
            for _ in range(20):
                # half the radius of the limit is always on the growing branch
                flat = torch.where(
                    ((flat * flat).sum(-1) < self.limit[..., None])[..., None], flat, flat * 0.5
                )
                before, flat = flat, newton(flat)
                # a device is not asked how far it is
                if flat.device.type == "cpu" and bool(((flat - before).abs() < 1e-15).all()):
                    break
            back, _ = self._distort(flat)
            tolerance = 1e-4 if pixels.dtype == torch.float32 else 1e-8
            valid = ((back - plane).abs().amax(-1) < tolerance) & (
                (flat * flat).sum(-1) < self.limit[..., None]
            )
        flat = newton(flat)  # the step that carries the gradient
        rays, meets = unflatten(self.lens, flat, self.shape_of_lens[..., None, :])
        return rays, valid & meets


def _shape(lens: Lens, given: Sequence[float]) -> tuple[float, float]:
    """The numbers of `Lens`. Raises CameraError for impossible ones."""
    if lens is Lens.FIELD_OF_VIEW:
        (omega,) = given
        if not 0 <= omega < math.pi - 1e-3:
            raise CameraError(f"omega {omega:g} of a field-of-view lens is not in 0 to pi")
        omega = max(omega, LEAST_OMEGA)
        return omega, 2 * math.tan(omega / 2)
    if lens is Lens.UNIFIED:
        alpha, beta = given
        if not (0 <= alpha <= 1 and beta > 0):
            raise CameraError(f"alpha {alpha:g}, beta {beta:g}: not in 0 to 1, not positive")
        return alpha, beta
    return (given[0] if given else 0.0), 0.0
