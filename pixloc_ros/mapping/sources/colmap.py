"""A COLMAP model with its images, taken as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixloc_ros.errors import InputError
from pixloc_ros.left_out import LeftOut
from pixloc_ros.mapping.sources.poses import usable
from pixloc_ros.mapping.sources.source import Source, Work
from pixloc_ros.mapping.sparse_model import read_colmap, subset


@dataclass(frozen=True)
class FromColmap:
    """The folder of a model, and that of its images."""

    model: Path
    images: Path

    def build(self, work: Work) -> Source:
        """Raises InputError. Images that cannot be used cost only themselves."""
        left_out = LeftOut("part")
        model = read_colmap(self.model, left_out)
        work.say_left_out(left_out)
        cameras = {
            name: model.cameras[index].camera()
            for name, index in zip(model.names, model.camera_index, strict=True)
        }
        try:
            kept = set(usable(work, self.images, cameras, list(model.names)))
        except InputError as error:
            raise InputError(f"{self.model}: {error}") from None
        if len(kept) < len(model.names):
            here = np.array([name in kept for name in model.names])
            model = subset(model, here, np.ones(len(model.points), bool))
        return Source(model, self.images, {"source": "colmap", "name": self.model.name})
