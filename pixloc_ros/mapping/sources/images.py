"""Images alone: COLMAP finds their poses, and something else their frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.features import default_levels, extract_pyramid
from pixloc_ros.geometry import Camera
from pixloc_ros.mapping.sfm import SfmWorkspace, find_images, prepare
from pixloc_ros.mapping.sources.frame import MapFrame
from pixloc_ros.mapping.sources.hloc import HlocFeatures
from pixloc_ros.mapping.sources.source import Source, Work, claim
from pixloc_ros.mapping.sparse_model import read_colmap
from pixloc_ros.sensors import read_image


@dataclass(frozen=True)
class FromImages:
    """A folder of images. camera: of them all, where it is known."""

    images: Path
    camera: Camera | None = None
    frame: MapFrame = field(default_factory=MapFrame)
    known: HlocFeatures | None = None

    def build(self, work: Work) -> Source:
        """Raises InputError where less than half of the images hang together."""
        names, left_out = find_images(self.images, self.camera)
        work.say_left_out(left_out)
        cameras = None if self.camera is None else dict.fromkeys(names, self.camera)
        claim(work.folder)
        workspace = SfmWorkspace(work.folder, self.images, names, cameras)
        prepared = prepare(workspace, {"known": self.known.identity() if self.known else None})
        read = self.known.read(names, work) if self.known else None
        with work.stages("finding the frame"):
            move = self.frame.prepare(self.images, names, work.say)
        with work.stages("matching"):
            matched = prepared.match(lambda: self._apart_by_looks(work, names), read)
        with work.stages("mapping"):
            model = matched.map_images()
        work.say(matched.registration(model, len(left_out)).as_text())
        if model.num_reg_images() < 0.5 * len(names):
            raise InputError(
                f"{self.images}: only {model.num_reg_images()} of {len(names)} images hang "
                "together; take images in between"
            )
        frame = move(model)
        told = {"source": "images", "name": self.images.name, "frame": frame}
        return Source(read_colmap(model), self.images, told)

    def _apart_by_looks(self, work: Work, names: Sequence[str]) -> np.ndarray:
        """By the network's global descriptor, (n, n)."""
        descriptors = []
        level = default_levels(work.network)[0]
        for name in work.bar(names, total=len(names), unit="image", desc="comparing"):
            pyramid = extract_pyramid(work.network, read_image(self.images / name), [level])
            descriptors.append(pyramid.descriptor.cpu())
        together = torch.stack(descriptors)
        together = torch.nn.functional.normalize(together - together.mean(0), dim=-1)
        return (1 - together @ together.T).numpy()
