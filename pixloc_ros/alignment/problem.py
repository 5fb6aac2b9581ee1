"""What is aligned at one level, how, and the linear system it reduces to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from pixloc_ros.errors import require_range
from pixloc_ros.geometry import CAUCHY, Camera, FeatureTable, Pose, RobustKernel


@dataclass(frozen=True)
class QueryMap:
    """The query at one level: tables of C feature channels and of one confidence channel."""

    features: FeatureTable
    confidence: FeatureTable

    @classmethod
    def of(cls, features: Tensor, confidence: Tensor) -> QueryMap:
        """From features (..., C, H, W) and confidence (..., H, W)."""
        return cls(FeatureTable(features), FeatureTable(confidence.unsqueeze(-3)))


@dataclass(frozen=True)
class AlignmentProblem:
    """Points with reference features on one side, a query feature map on the other.

    B hypotheses are solved together; 1 stands for "shared by all of them".

    camera: maps the camera frame to cells of the query, batch shape () or (B,).
    points: (B or 1, N, 3) in the map frame. mask: (B or 1, N), False for padding.
    features: (B or 1, N, C), unit norm. confidence: (B or 1, N).
    pad: cells that a projection must keep from the border.
    """

    query: QueryMap
    camera: Camera
    points: Tensor
    features: Tensor
    confidence: Tensor
    mask: Tensor
    kernel: RobustKernel = CAUCHY
    pad: float = 1.0


@dataclass(frozen=True)
class RigProblem:
    """Cameras that are fixed to each other: one problem each, and cam_from_rig, shape ()."""

    problems: tuple[AlignmentProblem, ...]
    cam_from_rig: tuple[Pose, ...]


@dataclass(frozen=True)
class LinearSystem:
    """The normal equations of B hypotheses and what each point contributed.

    hessian: (B, 6, 6) sum of w J^T J; gradient: (B, 6) sum of w J^T r, both undamped, with the
    left perturbation (translation, rotation) in the camera frame.
    cost: (B,) mean robust cost, comparable between hypotheses: points are weighted by the
    reference confidence and an unseen point costs as much as an unrelated feature.
    pixels: (B, N, 2) cells. squared: (B, N) squared residuals. valid: (B, N) seen points.
    confidence: (B, N) product of both confidences. weight: (B, N) the w above.
    """

    hessian: Tensor
    gradient: Tensor
    cost: Tensor
    pixels: Tensor
    squared: Tensor
    valid: Tensor
    confidence: Tensor
    weight: Tensor


@dataclass
class LMOptions:
    """How one level is optimized.

    iterations: most iterations. tolerance: root mean square motion of the projected points
    in cells under which a hypothesis has converged (independent of the scale of the map).
    reject_steps: keep a step only if it lowers the cost, and adapt the damping as Marquardt
    does; without it every step is taken, as in the original.
    min_points: fewest visible points with which a hypothesis goes on.
    """

    iterations: int = 20
    tolerance: float = 0.02
    reject_steps: bool = True
    min_points: int = 10

    def __post_init__(self) -> None:
        require_range(self, 1, 10_000, "iterations")
        require_range(self, 0, 100, "tolerance")
        require_range(self, 6, 100_000, "min_points")


@dataclass(frozen=True)
class LMResult:
    """pose: (B,) refined. cost: (B,) there. iterations: (B,) that moved each hypothesis.

    failed: (B,) too few visible points or a singular system on the way.
    """

    pose: Pose
    cost: Tensor
    iterations: Tensor
    failed: Tensor
    linearize: Callable[[], LinearSystem]

    @cached_property
    def system(self) -> LinearSystem:
        """At the refined poses."""
        return self.linearize()
