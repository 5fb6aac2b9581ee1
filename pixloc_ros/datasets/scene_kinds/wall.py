"""Photographs side by side on one plane: their views are homographies of each other."""

from __future__ import annotations

import numpy as np

from pixloc_ros.datasets.scene_kinds.boxes import SceneBoxes


def place(layout: SceneBoxes, random: np.random.Generator) -> np.ndarray:
    """Photographs side by side on one plane: their views are homographies of each other."""
    layout.add([0, 0, 10], [60, 60, 24], inside=True, contrast=random.uniform(0, 0.4))
    columns, rows = int(random.integers(1, 4)), int(random.integers(1, 3))
    wide, high = random.uniform(1.0, 2.5), random.uniform(1.0, 2.0)
    for i in range(columns):
        for j in range(rows):
            at = [(i - (columns - 1) / 2) * wide, 0.05, (j + 0.5) * high]
            layout.add(at, [wide, 0.1, high])
    return np.array([columns * wide, 4.0, rows * high])


def gaze(size: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where a first camera stands, and what it looks at."""
    reach = max(size[0], size[2]) * random.uniform(0.5, 1.1)
    eye = np.array([random.normal(0, 0.3 * reach), -reach, size[2] * random.uniform(0.2, 1)])
    target = np.array([random.normal(0, 0.15), 0.0, 0.5]) * [size[0], 1, size[2]]
    return eye, target


def keep(at: np.ndarray, size: np.ndarray, reach: float) -> np.ndarray:
    """Another camera's place, kept where one can stand."""
    at[1] = min(at[1], -0.3 * reach)
    at[2] = max(at[2], 0.5)
    return at
