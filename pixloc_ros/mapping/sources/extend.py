"""Images that are added to a map, in which they are localized first."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.mapping.frame import LEAST
from pixloc_ros.mapping.sfm import find_images
from pixloc_ros.mapping.sources.hloc import HlocFeatures
from pixloc_ros.mapping.sources.poses import triangulate
from pixloc_ros.mapping.sources.source import Source, Work
from pixloc_ros.sensors import read_image

Locate = Callable[[np.ndarray, Camera], "tuple[Pose | None, str]"]
"""cam_from_map of an image and its camera, or None with the reason."""


@dataclass(frozen=True)
class FromLocalized:
    """Images of one camera, and what localizes them in a map. there: names of its images."""

    map: Path
    images: Path
    camera: Camera
    locate: Locate
    there: Collection[str]
    known: HlocFeatures | None = None
    adjusted: bool = False

    def build(self, work: Work) -> Source:
        """Raises InputError."""
        with work.stages("localizing"):
            poses = self._found(work)
        cameras = dict.fromkeys(poses, self.camera)
        model = triangulate(work, self.images, cameras, poses, self.known, self.adjusted)
        return Source(model, self.images, {"source": "extend", "name": self.images.name})

    def _found(self, work: Work) -> dict[str, Pose]:
        names, left_out = find_images(self.images, self.camera)
        again = set(self.there) & set(names)
        if again:
            raise InputError(f"{self.images}: {min(again)} is in {self.map} already")
        poses = {}
        for name in work.bar(names, total=len(names), unit="image", desc="localizing"):
            pose, reason = self.locate(read_image(self.images / name), self.camera)
            if pose is None:
                left_out.add("not found in the map", f"{self.images / name}: {reason}")
            else:
                poses[name] = pose
        work.say_left_out(left_out)
        if len(poses) < LEAST:
            raise InputError(
                f"{self.images}: {len(poses)} images are found in {self.map}, {LEAST} are needed"
            )
        return poses
