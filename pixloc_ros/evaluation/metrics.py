"""Pose errors and what is reported of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pixloc_ros.geometry import Pose

THRESHOLDS = ((0.01, 1), (0.02, 2), (0.03, 3), (0.05, 5), (0.25, 2), (0.5, 5), (5, 10))
"""(metres, degrees) of the recalls, as the field reports them."""


@dataclass(frozen=True)
class PoseErrors:
    """Errors of Q queries; a query without result counts as infinitely wrong.

    names: Q. metres: (Q,) distance between camera centres. degrees: (Q,) rotation angle.
    """

    names: tuple[str, ...]
    metres: np.ndarray
    degrees: np.ndarray

    @classmethod
    def of(cls, truth: Mapping[str, Pose], results: Mapping[str, Pose]) -> PoseErrors:
        metres, degrees = [], []
        for name, true in truth.items():
            if name not in results:
                metres.append(np.inf)
                degrees.append(np.inf)
                continue
            distance, angle = results[name].distance(true)
            metres.append(float(distance))
            degrees.append(float(torch.rad2deg(angle)))
        return cls(tuple(truth), np.array(metres), np.array(degrees))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def missing(self) -> int:
        return int(np.isinf(self.metres).sum())

    def medians(self) -> tuple[float, float]:
        """Median (metres, degrees) over all queries, the missing ones included."""
        return float(np.median(self.metres)), float(np.median(self.degrees))

    def recall(self, metres: float, degrees: float) -> float:
        """Share of the queries within both bounds."""
        return float(np.mean((self.metres <= metres) & (self.degrees <= degrees)))

    def subset(self, names: Sequence[str]) -> PoseErrors:
        index = [self.names.index(name) for name in names]
        return PoseErrors(tuple(names), self.metres[index], self.degrees[index])

    def scenes(self) -> dict[str, PoseErrors]:
        """The errors by first folder of the query names."""
        groups: dict[str, list[str]] = {}
        for name in self.names:
            groups.setdefault(name.split("/")[0] if "/" in name else ".", []).append(name)
        return {scene: self.subset(names) for scene, names in groups.items()}
