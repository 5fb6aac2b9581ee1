"""A furnished room with pictures on its walls."""

from __future__ import annotations

import math

import numpy as np

from pixloc_ros.datasets.scene_kinds.boxes import SceneBoxes


def place(layout: SceneBoxes, random: np.random.Generator) -> np.ndarray:
    length, width = random.uniform(3.2, 9.0), random.uniform(3.0, 7.0)
    height = random.uniform(2.3, 3.4)
    size = np.array([length, width, height])
    layout.add([0, 0, height / 2], size, inside=True)
    tops = []
    for _ in range(random.integers(5, 11)):
        body = random.uniform([0.4, 0.3, 0.35], [1.7, 0.8, 2.1])
        side = random.integers(4)
        along = random.uniform(-0.5, 0.5) * (length if side < 2 else width)
        across = (0.5 * (width if side < 2 else length) - body[1] / 2) * (1 if side % 2 else -1)
        place = [along, across] if side < 2 else [across, along]
        turned = (0 if side < 2 else math.pi / 2) + random.normal(0, 0.08)
        if random.random() < 0.2:  # in the room, not along a wall
            place = list(random.uniform(-0.3, 0.3, 2) * size[:2])
            turned, body[2] = random.uniform(0, math.pi), min(body[2], 0.9)
        layout.add([*place, body[2] / 2], body, turned)
        tops.append((place[0], place[1], body[2]))
    look = 1
    for _ in range(random.integers(0, 3)):  # tables, thin legs and all
        x, y = random.uniform(-0.3, 0.3, 2) * size[:2]
        w, d, h = random.uniform([0.8, 0.5, 0.6], [1.6, 0.9, 0.9])
        yaw = random.uniform(0, math.pi)
        layout.add([x, y, h], [w, d, 0.04], yaw)
        c, s = math.cos(yaw), math.sin(yaw)
        for sx, sy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            a, b = sx * (w / 2 - 0.04), sy * (d / 2 - 0.04)
            leg = [x + c * a - s * b, y + s * a + c * b, h / 2]
            layout.add(leg, [0.05, 0.05, h], yaw, look=look)
        look += 1
        tops.append((x, y, h))
    repeated = random.random() < 0.25  # the same picture many times
    for _ in range(random.integers(5, 12)):  # pictures, doors, windows
        side = random.integers(4)
        w, h = random.uniform(0.25, 1.3), random.uniform(0.25, 1.2)
        along = random.uniform(-0.45, 0.45) * (length if side < 2 else width)
        across = 0.5 * (width if side < 2 else length) * (1 if side % 2 else -1)
        place = [along, across] if side < 2 else [across, along]
        z = random.uniform(h / 2, height - h / 2) if height > h else height / 2
        thick = random.uniform(0.02, 0.1)
        layout.add(
            [*place, z],
            [w, thick, h],
            0 if side < 2 else math.pi / 2,
            look=90 if repeated else -1,
        )
    for _ in range(random.integers(6, 13)):
        body = random.uniform(0.06, 0.4, 3)
        x, y, z = tops[random.integers(len(tops))]
        if random.random() < 0.25:
            (x, y), z = random.uniform(-0.45, 0.45, 2) * size[:2], 0.0
        offset = random.uniform(-0.4, 0.4, 2)
        layout.add(
            [x + offset[0], y + offset[1], z + body[2] / 2],
            body,
            random.uniform(0, math.pi),
            random.normal(0, 0.1, 2),
        )
    if random.random() < 0.4:  # a hanging lamp
        x, y = random.uniform(-0.3, 0.3, 2) * size[:2]
        layout.add([x, y, height - 0.3], [0.03, 0.03, 0.6])
        layout.add([x, y, height - 0.65], random.uniform(0.15, 0.45, 3))
    return size


def gaze(size: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where a first camera stands, and what it looks at."""
    eye = np.append(random.uniform(-0.32, 0.32, 2) * size[:2], random.uniform(0.7, 1.9))
    angle, reach = random.uniform(0, 2 * math.pi), 0.48 * min(size[:2])
    target = np.array([reach * math.cos(angle), reach * math.sin(angle), random.uniform(0.4, 1.8)])
    return eye, target


def keep(at: np.ndarray, size: np.ndarray, reach: float) -> np.ndarray:
    """Another camera's place, kept where one can stand."""
    at[2] = max(at[2], 0.5)
    at[:2] = np.clip(at[:2], -0.4 * size[:2], 0.4 * size[:2])
    at[2] = min(at[2], 0.85 * size[2])
    return at
