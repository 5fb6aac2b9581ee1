"""What a localization attempt answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization.trace import Trace


class Status(str, Enum):
    """Whether a pose is believed, and if not, at which step it failed."""

    SUCCESS = "success"
    BAD_INPUT = "bad_input"
    NO_REFERENCE = "no_reference"
    FAILED = "failed"
    REJECTED = "rejected"


@dataclass(frozen=True)
class InlierStatistics:
    """How well the map fits the image at the final pose, on the finest level.

    points: points that were compared. visible: share of them inside the image.
    inliers: share of the visible ones whose residual is that of a matching point. fit: the same
    between chance (0) and what references of the map reach with each other (1).
    matches: how many agree with the pose, where the pose came from matches. shift_px: median
    way of the points from the level before the finest. cost: mean robust cost. condition:
    condition number of the scaled Hessian. spread: cells of a grid of 4 x 4 over the image that
    the agreeing matches fill, if they filled each alike, of the view with most. view_deg: median
    angle between the rays on which the image and the references see the inliers.
    evenness: of the inliers, see `spread.evenness`.
    patches_sought: patches that were looked for. patches: points whose patches are found where the
    pose that follows from them projects them; patch_share: such patches of those that were looked
    for; patch_spread: as spread.
    """

    points: int = 0
    visible: float = 0.0
    inliers: float = 0.0
    fit: float = 1.0
    matches: int = 0
    shift_px: float = 0.0
    cost: float = float("inf")
    condition: float = float("inf")
    spread: float = 0.0
    view_deg: float = 0.0
    evenness: float = 1.0
    patches_sought: int = 0
    patches: int = 0
    patch_share: float = 0.0
    patch_spread: float = 0.0


@dataclass(frozen=True)
class Reprojections:
    """Where one view shows the observations that were aligned: pixels (n, 2), of the whole image.

    residual: (n,) squared residual in units of the largest that counts as an inlier. Of an answer
    of the localizer also points, references: (n,) of the map; depth: (n,) metres along the axis
    of the camera; angle: (n,) radians between the rays on which the image and the reference see
    the point; nearer: (n,) how many times as far from the reference as from the image it is.
    """

    pixels: np.ndarray
    residual: np.ndarray
    points: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    references: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    depth: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    angle: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    nearer: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


VAGUE_PX = 50.0
"""Standard deviation of a prior, in pixels, from which on others are drawn around it: where
alignment from one start begins to fail (doc/starts.md)."""


@dataclass(frozen=True)
class Prior:
    """Where the camera is expected: cam_from_map, batch shape (), and how sure that is.

    covariance: (6, 6) of the left perturbation (translation, rotation) in the camera frame,
    or None when unknown.
    """

    cam_from_map: Pose
    covariance: Tensor | None = None

    def hypotheses(self, count: int, camera: Camera) -> Pose:
        """Poses to start from, (B,): the prior itself, and where it is vague for this camera up to
        `count` in all, drawn from its covariance.
        """
        expected = self.cam_from_map.to(torch.float64)
        if self.covariance is None or count == 1:
            return expected[None]
        covariance = self.covariance.to(torch.float64)
        turn = covariance[3:, 3:].diagonal().clamp(min=0).sum().sqrt()
        if float(turn * camera.focal.mean()) < VAGUE_PX:
            return expected[None]
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(count, 6, generator=generator, dtype=torch.float64)
        drawn[0] = 0.0
        values, axes = torch.linalg.eigh(covariance)
        return expected[None].perturb(drawn * values.clamp(min=0).sqrt() @ axes.T)


@dataclass(frozen=True)
class LocalizationResult:
    """One answer. cam_from_map and covariance are meaningful only when `ok`.

    cam_from_map: batch shape (), float64. covariance: (6, 6) of its left perturbation
    (translation, rotation) in the camera frame. references: names that were aligned with.
    map, frame: which map of several, and the frame of its coordinates.
    reprojections: of each view. timings_ms: wall time of each stage. trace: every step, where
    the localizer was asked for them.
    """

    status: Status
    reason: str
    cam_from_map: Pose = field(default_factory=lambda: Pose.identity(dtype=torch.float64))
    covariance: Tensor = field(
        default_factory=lambda: torch.full((6, 6), torch.inf, dtype=torch.float64)
    )
    statistics: InlierStatistics = InlierStatistics()
    references: tuple[str, ...] = ()
    from_prior: bool = False
    reprojections: tuple[Reprojections, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    trace: Trace | None = None
    map: str = ""
    frame: str = ""

    @property
    def ok(self) -> bool:
        return self.status is Status.SUCCESS


class Refusal(Exception):
    """Raised inside of a localization that ends without a pose; callers see its result."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
