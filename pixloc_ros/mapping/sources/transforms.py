"""Posed images as nerfstudio and instant-ngp list them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixloc_ros.datasets.transforms_json import read_transforms
from pixloc_ros.mapping.sources.hloc import HlocFeatures
from pixloc_ros.mapping.sources.poses import triangulate
from pixloc_ros.mapping.sources.source import Source, Work


@dataclass(frozen=True)
class FromTransforms:
    """A `transforms.json`, and the folder of its images."""

    transforms: Path
    images: Path
    known: HlocFeatures | None = None
    adjusted: bool = False

    def build(self, work: Work) -> Source:
        """Raises InputError."""
        listed = read_transforms(self.transforms, self.images)
        work.say_left_out(listed.left_out)
        model = triangulate(
            work, self.images, listed.cameras, listed.poses, self.known, self.adjusted
        )
        return Source(model, self.images, {"source": "transforms", "name": self.transforms.name})
