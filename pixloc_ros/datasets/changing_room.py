"""The rendered room as it changes from day to day."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pixloc_ros.datasets.raycast import Scene
from pixloc_ros.datasets.rendered_room import PIXELS_PER_METRE, Painter, room_boxes

MOVED, REPLACED, HUNG = 0.5, 0.3, 0.5
"""Chance, of each day, that a piece of furniture is moved or replaced, and that posters change."""
POSTERS = 3
REPAINTED = 30
"""The day on which a whole wall is painted anew."""
NIGHT = 5
"""Of seven days, the one on which the robot drives by lamp light."""


class ChangingRoom:
    """A room on one of its days, the first as `rendered_room.make_room` has it."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._paint = Painter(self._random)
        self._boxes = room_boxes(self._random, self._paint)
        self.day = 0

    def scene(self) -> Scene:
        """What there is to see today."""
        return Scene(self._boxes)

    def light(self) -> np.ndarray:
        """Gain of red, green and blue today, (3,)."""
        random = np.random.default_rng(1000 + self.day)
        warm = 0.15 if self.day % 7 == NIGHT else random.uniform(-0.05, 0.05)
        gain = 0.4 if self.day % 7 == NIGHT else random.uniform(0.75, 1.15)
        return gain * np.array([1 + warm, 1.0, 1 - warm])

    def sleep(self) -> None:
        """Go on to the next day, and change what changes."""
        self.day += 1
        random = self._random
        if random.random() < MOVED:
            self._move(int(random.integers(1, len(self._boxes))))
        if random.random() < REPLACED:
            self._replace(int(random.integers(1, len(self._boxes))))
        if random.random() < HUNG:
            self._hang(int(random.integers(4)))
        if self.day == REPAINTED:
            self._repaint(int(random.integers(4)))

    def _move(self, piece: int) -> None:
        box, random = self._boxes[piece], self._random
        x, y, z = box.centre
        there = (x + random.uniform(-0.4, 0.4), y + random.uniform(-0.3, 0.3), z)
        turned = box.yaw + random.uniform(-0.4, 0.4)
        self._boxes[piece] = replace(box, centre=there, yaw=turned)

    def _replace(self, piece: int) -> None:
        box = self._boxes[piece]
        x, y, z = (2 * half for half in box.half)
        sides = [(y, z), (y, z), (x, z), (x, z), (x, y), (x, y)]
        faces = [self._paint.face(*side, 2.0) for side in sides]
        self._boxes[piece] = replace(box, faces=faces)

    def _hang(self, wall: int) -> None:
        faces = list(self._boxes[0].faces)
        faces[wall] = faces[wall].copy()
        for _ in range(POSTERS):
            self._paint.hang(faces[wall])
        self._boxes[0] = replace(self._boxes[0], faces=faces)

    def _repaint(self, wall: int) -> None:
        faces = list(self._boxes[0].faces)
        height, width = faces[wall].shape[:2]
        # as large in metres as it was
        scale = PIXELS_PER_METRE
        faces[wall] = self._paint.face(width / scale, height / scale, 1.1)[:height, :width]
        self._boxes[0] = replace(self._boxes[0], faces=faces)
