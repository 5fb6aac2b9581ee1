"""A street between houses, with poles, cars and trees."""

from __future__ import annotations

import numpy as np

from pixloc_ros.datasets.scene_kinds.boxes import SceneBoxes


def place(layout: SceneBoxes, random: np.random.Generator) -> np.ndarray:
    half = random.uniform(4.0, 11.0)
    layout.add([0, 0, 60], [300, 300, 140], inside=True, contrast=random.uniform(0, 0.4))
    layout.add([0, 0, -0.1], [200, 200, 0.2])
    look = 1
    for side in (-1, 1):
        x = -random.uniform(12, 18)
        while x < 35:
            w, h, d = random.uniform(5, 15), random.uniform(4, 15), 6.0
            y = side * (half + d / 2 + random.uniform(0, 2.0))
            layout.add([x + w / 2, y, h / 2], [w, d, h])
            front = y - side * d / 2
            if random.random() < 0.7:  # windows in relief, all alike
                columns, rows = int(random.integers(2, 4)), int(random.integers(1, 3))
                size = random.uniform([0.8, 0.05, 1.0], [1.8, 0.5, 2.2])
                for i in range(columns):
                    for j in range(rows):
                        at = [x + w * (i + 0.5) / columns, front, 1.8 + j * h / (rows + 1)]
                        layout.add(at, size, look=look)
                look += 1
            x += w + (random.uniform(0, 4) if random.random() < 0.4 else 0)
    if random.random() < 0.6:  # the street ends
        layout.add([random.uniform(25, 60), 0, 6], [8, 60, 12])
    for _ in range(random.integers(1, 5)):  # poles
        at = [random.uniform(0, 25), random.choice([-1, 1]) * (half - random.uniform(0.3, 2))]
        layout.add([*at, 2.5], [*([random.uniform(0.08, 0.25)] * 2), 5.0])
    for _ in range(random.integers(0, 4)):  # cars
        at = [random.uniform(4, 25), random.choice([-1, 1]) * (half - random.uniform(1, 2.5))]
        layout.add([*at, 0.6], [4.2, 1.8, 0.9])
        layout.add([*at, 1.25], [2.2, 1.6, 0.5])
    for _ in range(random.integers(0, 3)):  # trees
        at = [random.uniform(3, 30), random.choice([-1, 1]) * (half + random.uniform(-1.5, 0))]
        crown = random.uniform([1.5, 1.5, 2], [3.5, 3.5, 4])
        layout.add([*at, 1.2], [0.3, 0.3, 2.4])
        layout.add([*at, 2 + crown[2] / 2], crown, random.uniform(0, 3), random.normal(0, 0.2, 2))
    return np.array([60.0, 2 * half, 10.0])


def gaze(size: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where a first camera stands, and what it looks at."""
    eye = np.array([0.0, random.uniform(-0.25, 0.25) * size[1], random.uniform(1.2, 2.2)])
    aside = random.normal(0, 0.1 if random.random() < 0.6 else 1.0)
    target = eye + np.array([20.0, 20.0 * aside, random.uniform(-1, 3)])
    target[1] = np.clip(target[1], -0.6 * size[1], 0.6 * size[1])
    return eye, target


def keep(at: np.ndarray, size: np.ndarray, reach: float) -> np.ndarray:
    """Another camera's place, kept where one can stand."""
    at[2] = max(at[2], 0.5)
    return at
