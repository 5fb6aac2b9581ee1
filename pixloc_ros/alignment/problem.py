"""What is aligned at one level, and the linear system it reduces to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pixloc_ros.geometry import CAUCHY, Camera, FeatureTable, RobustKernel


@dataclass(frozen=True)
class AlignmentProblem:
    """Points with reference features on one side, a query feature map on the other.

    B hypotheses are solved together; 1 stands for "shared by all of them".

    query: table of C feature channels and, last, the confidence.
    camera: maps the camera frame to cells of that table, batch shape () or (B,).
    points: (B or 1, N, 3) in the map frame. mask: (B or 1, N), False for padding.
    features: (B or 1, N, C), unit norm. confidence: (B or 1, N).
    pad: cells that a projection must keep from the border.
    """

    query: FeatureTable
    camera: Camera
    points: Tensor
    features: Tensor
    confidence: Tensor
    mask: Tensor
    kernel: RobustKernel = CAUCHY
    pad: float = 1.0


def query_table(features: Tensor, confidence: Tensor) -> FeatureTable:
    """Features (..., C, H, W) and their confidence (..., H, W) in one table."""
    return FeatureTable(torch.cat([features, confidence.unsqueeze(-3)], -3))


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
