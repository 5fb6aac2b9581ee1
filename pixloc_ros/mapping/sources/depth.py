"""Depth images beside the images of a source: more points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from pixloc_ros.errors import InputError
from pixloc_ros.geometry import CameraError
from pixloc_ros.left_out import LeftOut
from pixloc_ros.mapping.depth_points import add_depth_points
from pixloc_ros.mapping.sources.source import Source, Work
from pixloc_ros.sensors import ImageError, read_depth, read_image, require_size


@dataclass(frozen=True)
class DepthFolder:
    """Depth images of 16 bits named as the images, but .png. unit: metres."""

    folder: Path
    unit: float = 0.001

    def add(self, source: Source, work: Work) -> Source:
        """The source with points where depth is known. Raises InputError.

        A depth image that cannot be read is left out.
        """
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder of depth images")
        self._require_one_each(source)
        before, left_out = len(source.model.points), LeftOut("depth image")
        names = source.model.names
        if not any(self._file(name).is_file() for name in names):
            raise InputError(
                f"{self.folder}: no depth image has an image's name ({self._file(names[0]).name})"
            )
        with work.stages("depth"):
            model = add_depth_points(
                source.model, self._read(source, left_out), _gray(source.images)
            )
        work.say_left_out(left_out)
        if left_out and len(left_out) == sum(self._file(name).is_file() for name in names):
            raise InputError(f"{self.folder}: no depth image can be used: {left_out.most}")
        added = len(model.points) - before
        work.say(f"{added} points from depth images")
        told = {**source.provenance, "depth_points": added}
        return replace(source, model=model, provenance=told)

    def _file(self, name: str) -> Path:
        return (self.folder / name).with_suffix(".png")

    def _require_one_each(self, source: Source) -> None:
        """Two images of which one is a.jpg and one a.png would share a depth image."""
        owners: dict[Path, str] = {}
        for name in source.model.names:
            other = owners.setdefault(self._file(name), name)
            if other != name:
                raise InputError(f"{self._file(name)}: of {other} or of {name}?")

    def _read(self, source: Source, left_out: LeftOut) -> Callable[[str], np.ndarray | None]:
        model = source.model
        index = dict(zip(model.names, model.camera_index.tolist(), strict=True))

        def read(name: str) -> np.ndarray | None:
            path = self._file(name)
            if not path.is_file():
                return None
            try:
                depth = read_depth(path, self.unit)
                camera = model.cameras[index[name]].camera()
                require_size(camera, depth.shape[1], depth.shape[0], str(path))
            except ImageError as error:
                left_out.add("not readable", str(error))
                return None
            except CameraError as error:
                left_out.add("of another size than the camera", str(error))
                return None
            return depth

        return read


def _gray(images: Path) -> Callable[[str], np.ndarray]:
    return lambda name: cv2.cvtColor(read_image(images / name), cv2.COLOR_RGB2GRAY)
