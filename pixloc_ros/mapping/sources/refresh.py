"""Images that a node kept while it drove, by which an aged map is made new."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixloc_ros.datasets import read_poses, read_queries
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.left_out import LeftOut
from pixloc_ros.mapping.frame import LEAST
from pixloc_ros.mapping.sources.poses import triangulate, unusable
from pixloc_ros.mapping.sources.source import Source, Work
from pixloc_ros.sensors import read_image

CAMERAS, POSES = "queries_with_intrinsics.txt", "poses.txt"
"""What a folder of kept images has beside them: hloc's lists of cameras and of cam_from_map."""

LocateFrom = Callable[[np.ndarray, Camera, Pose], "tuple[Pose | None, str]"]
"""cam_from_map of an image and its camera, from where it was believed; None with the reason."""


@dataclass(frozen=True)
class FromKept:
    """A folder of kept images. locate: localizes them in the map, whose points are held fixed.
    there: names of its images.
    """

    map: Path
    images: Path
    locate: LocateFrom
    there: Collection[str]

    def build(self, work: Work) -> Source:
        """Raises InputError."""
        cameras = read_queries(self.images / CAMERAS)
        priors = read_poses(self.images / POSES)
        left_out = LeftOut("image")
        poses = {}
        with work.stages("localizing"):
            for name in work.bar(
                list(cameras), total=len(cameras), unit="image", desc="localizing"
            ):
                reason = self._why_not(name, cameras[name], priors)
                if reason is None:
                    image = read_image(self.images / name)
                    pose, refused = self.locate(image, cameras[name], priors[name])
                    if pose is not None:
                        poses[name] = pose
                        continue
                    reason = ("not found in the map", f"{self.images / name}: {refused}")
                left_out.add(*reason)
        work.say_left_out(left_out)
        if len(poses) < LEAST:
            raise InputError(
                f"{self.images}: {len(poses)} images are found in {self.map}, {LEAST} are needed"
            )
        chosen = {name: cameras[name] for name in poses}
        model = triangulate(work, self.images, chosen, poses, None, False)
        return Source(model, self.images, {"source": "refresh", "name": self.images.name})

    def _why_not(
        self, name: str, camera: Camera, priors: dict[str, Pose]
    ) -> tuple[str, str] | None:
        if name in self.there:
            return "in the map already", name
        if name not in priors:
            return f"not in {POSES}", name
        return unusable(self.images, name, camera)
