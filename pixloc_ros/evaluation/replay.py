"""What a replayed drive says of a live localizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.datasets.sequence import pose_at
from pixloc_ros.geometry import Pose


@dataclass(frozen=True)
class Answer:
    """A pose that was published: stamp of its image, seconds until it arrived, the pose."""

    stamp: float
    latency: float
    map_from_base: Pose
    covariance: Tensor

    def error(self, truth: Mapping[float, Pose]) -> tuple[float, float]:
        """Metres and degrees from the truth (map_from_base) at this very stamp.

        Raises KeyError when no image was played at it.
        """
        exact = {round(stamp * 1e6): pose for stamp, pose in truth.items()}
        true = exact[round(self.stamp * 1e6)]
        distance, angle = self.map_from_base.inverse().distance(true.inverse())
        return float(distance), float(torch.rad2deg(angle))


@dataclass(frozen=True)
class ReplayReport:
    """frames: images that were played. metres, degrees: error of each answer, by stamp.

    sigmas: distance in standard deviations of the position that was claimed.
    """

    frames: int
    stamps: np.ndarray
    metres: np.ndarray
    degrees: np.ndarray
    sigmas: np.ndarray
    latency_ms: np.ndarray

    @classmethod
    def of(
        cls, frames: int, answers: Sequence[Answer], truth: Mapping[float, Pose]
    ) -> ReplayReport:
        """Compare answers with the truth (map_from_base) at their very stamps.

        Raises KeyError when an answer has a stamp at which no image was played.
        """
        exact = {round(stamp * 1e6): pose for stamp, pose in truth.items()}
        metres, degrees, sigmas = [], [], []
        for answer in answers:
            true = exact[round(answer.stamp * 1e6)]
            distance, angle = answer.error(truth)
            metres.append(distance)
            degrees.append(angle)
            error = answer.map_from_base.translation - true.translation
            position = answer.covariance[:3, :3]
            sigmas.append(float((error @ torch.linalg.solve(position, error)).clamp(min=0).sqrt()))
        return cls(
            frames,
            np.array([a.stamp for a in answers]),
            np.array(metres),
            np.array(degrees),
            np.array(sigmas),
            np.array([1e3 * a.latency for a in answers]),
        )

    def lines(self) -> list[tuple[str, str]]:
        """(what, value) pairs for a table."""
        rows = [("frames", f"{self.frames}"), ("fixes", f"{len(self.stamps)}")]
        if not len(self.stamps):
            return rows
        p50, p95 = np.percentile(self.latency_ms, [50, 95])
        return [
            *rows,
            ("median error", f"{np.median(self.metres):.3f} m, {np.median(self.degrees):.2f} deg"),
            ("largest error", f"{self.metres.max():.3f} m, {self.degrees.max():.2f} deg"),
            ("latency p50 / p95", f"{p50:.0f} / {p95:.0f} ms"),
        ]


def trajectory_lines(
    estimated: Mapping[float, Pose], truth: Mapping[float, Pose]
) -> list[tuple[str, str]]:
    """(what, value) of the error of map_from_base along the way, where the truth is known."""
    metres, degrees = [], []
    for stamp, pose in estimated.items():
        true = pose_at(truth, stamp)
        if true is None:
            continue
        away, angle = pose.inverse().distance(true.inverse())
        metres.append(float(away))
        degrees.append(float(torch.rad2deg(angle)))
    if not metres:
        return [("along the way", "no transform")]
    rms = float(np.sqrt(np.mean(np.square(metres))))
    return [
        ("along the way", f"{len(metres)} poses at 50 Hz, {rms:.3f} m RMS"),
        ("at worst", f"{max(metres):.3f} m, {max(degrees):.2f} deg"),
    ]
