"""A heap of things in the middle of a large place, to walk around."""

from __future__ import annotations

import math

import numpy as np

from pixloc_ros.datasets.scene_kinds.boxes import SceneBoxes


def place(layout: SceneBoxes, random: np.random.Generator) -> np.ndarray:
    outer = random.uniform(6, 40)
    height = random.uniform(3, 14)
    layout.add([0, 0, height / 2], [outer, outer * random.uniform(0.6, 1), height], inside=True)
    radius = random.uniform(0.3, 1.2)
    for _ in range(random.integers(10, 26)):  # a heap of things to walk around
        body = random.uniform(0.1, 0.6, 3) * radius
        x, y = random.normal(0, 0.45 * radius, 2)
        z = body[2] / 2 + random.uniform(0, 1.2 * radius) * (random.random() < 0.5)
        layout.add([x, y, z], body, random.uniform(0, 3), random.normal(0, 0.15, 2))
    for _ in range(random.integers(2, 8)):  # and some farther off
        body = random.uniform([0.3, 0.3, 0.4], [2.0, 2.0, 2.5])
        angle, far = random.uniform(0, 2 * math.pi), random.uniform(2.0, 0.45 * outer + 1)
        layout.add(
            [far * math.cos(angle), far * math.sin(angle), body[2] / 2],
            body,
            random.uniform(0, 3),
        )
    return np.array([outer, outer, radius])


def gaze(size: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where a first camera stands, and what it looks at."""
    angle, away = random.uniform(0, 2 * math.pi), size[2] * random.uniform(1.8, 4.0)
    away = min(away, 0.4 * size[0])
    eye = np.array(
        [away * math.cos(angle), away * math.sin(angle), size[2] * random.uniform(0.3, 1.8)]
    )
    target = np.append(random.normal(0, 0.2 * size[2], 2), 0.4 * size[2])
    return eye, target


def keep(at: np.ndarray, size: np.ndarray, reach: float) -> np.ndarray:
    """Another camera's place, kept where one can stand."""
    at[2] = max(at[2], 0.15 * size[2])
    return at
