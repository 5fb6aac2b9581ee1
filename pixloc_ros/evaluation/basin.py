"""How far from the truth alignment may start: success against the error of the start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import Localizer, Prior, Status

STARTS = ((2.5, 0.05), (5.0, 0.1), (10.0, 0.2), (15.0, 0.3), (20.0, 0.4), (25.0, 0.5), (30.0, 0.6))
"""Degrees and metres of the starts."""


@dataclass(frozen=True)
class BasinPoint:
    """Starts at one distance: share that ended near the truth, and share that was accepted."""

    degrees: float
    metres: float
    found: float
    accepted: float
    starts: int


def displaced(truth: Pose, metres: float, degrees: float, random: np.random.Generator) -> Pose:
    """The pose (), its centre moved by exactly `metres` and turned by `degrees` about it."""
    axes = random.normal(0, 1, (2, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    turn = Pose.from_rotvec(
        torch.from_numpy(axes[0] * np.radians(degrees)), torch.zeros(3).double()
    )
    centre = truth.inverse().translation + torch.from_numpy(axes[1] * metres)
    rotation = turn.rotation @ truth.rotation
    return Pose(rotation, -(rotation @ centre[:, None]).squeeze(-1))


def basin(
    localizer: Localizer,
    queries: Iterable[tuple[Callable[[], np.ndarray], Camera, Pose]],
    near: tuple[float, float],
    unit: float = 1.0,
    starts: Sequence[tuple[float, float]] = STARTS,
    progress: Callable[[], object] = lambda: None,
) -> list[BasinPoint]:
    """Align every query from one random start of each distance; the same starts every time.

    queries: a function that reads the image, its camera and its true cam_from_map. near:
    metres and degrees that count as found. unit: factor on the metres of starts and `near`.
    """
    rows: list[list[tuple[bool, bool]]] = [[] for _ in starts]
    for number, (read, camera, truth) in enumerate(queries):
        image = read()
        for row, (degrees, metres) in zip(rows, starts, strict=True):
            random = np.random.default_rng([number, round(100 * degrees)])
            start = displaced(truth, metres * unit, degrees, random)
            result = localizer.localize(image, camera, Prior(start), search=False)
            away, angle = result.cam_from_map.distance(truth)
            found = (
                result.status in (Status.SUCCESS, Status.REJECTED)
                and float(away) < near[0] * unit
                and float(torch.rad2deg(angle)) < near[1]
            )
            row.append((found, result.ok))
            progress()
    return [
        BasinPoint(
            degrees,
            metres * unit,
            float(np.mean([f for f, _ in row])) if row else 0.0,
            float(np.mean([a for _, a in row])) if row else 0.0,
            len(row),
        )
        for row, (degrees, metres) in zip(rows, starts, strict=True)
    ]
