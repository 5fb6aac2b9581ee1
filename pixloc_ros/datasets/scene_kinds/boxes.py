"""Boxes while a scene is being made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MAX_BOXES = 52


@dataclass
class SceneBoxes:
    """Boxes while they are being placed; each (3,) or a number a box."""

    centre: list[np.ndarray] = field(default_factory=list)
    half: list[np.ndarray] = field(default_factory=list)
    rotvec: list[np.ndarray] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)
    look: list[int] = field(default_factory=list)
    """Boxes with the same look share their textures; -1 is a look of its own."""
    contrast: list[float] = field(default_factory=list)

    def add(
        self,
        centre: Sequence[float] | np.ndarray,
        size: Sequence[float] | np.ndarray,
        yaw: float = 0.0,
        tilt: Sequence[float] | np.ndarray = (0.0, 0.0),
        inside: bool = False,
        look: int = -1,
        contrast: float = 1.0,
    ) -> None:
        if len(self.centre) < MAX_BOXES:
            self.centre.append(np.array(centre, float))
            self.half.append(np.array(size, float) / 2)
            self.rotvec.append(np.array([*tilt, yaw], float))
            self.inside.append(inside)
            self.look.append(look)
            self.contrast.append(contrast)
