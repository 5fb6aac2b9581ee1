"""The folder that structure from motion works in, where an interrupted run finds what was done.

COLMAP's database holds features and matches; the model lies in `sparse` once it is whole.
"""

from __future__ import annotations

import os
import shutil
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import pycolmap
from PIL import ExifTags, Image

from pixloc_ros.geometry import Camera
from pixloc_ros.mapping.sparse_model import ModelError
from pixloc_ros.sensors import read_image


def _reader(camera: Camera) -> pycolmap.ImageReaderOptions:
    found = camera.colmap()
    if found is None:
        raise ModelError("COLMAP has no model for this camera; undistort its images first")
    options = pycolmap.ImageReaderOptions()
    options.camera_model, params = found
    options.camera_params = ",".join(f"{v:.12g}" for v in params)
    return options


def _taken_with(path: Path) -> str:
    """What images of one camera have in common, as far as a file tells: its size, and the camera
    and focal length of its EXIF.

    COLMAP itself shares cameras by EXIF only: frames of a video would have one each.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # of damaged EXIF
            size = f"{image.width} {image.height}"
            exif = image.getexif()
            focal = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLength)
            return f"{size} {exif.get(ExifTags.Base.Model)} {focal}"
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, struct.error):
        # Pillow fails in many ways over EXIF or files that OpenCV and COLMAP read
        height, width = read_image(path).shape[:2]
        return f"{width} {height}"


class SfmWorkspace:
    """A work folder and the images of a model.

    images: the folder they are in; names: those to use. cameras: of each of them, where they are
    known; else COLMAP finds them, one for all images of a size whose EXIF names the same camera
    and focal length, or none. Raises ModelError where COLMAP has no model for a camera.
    """

    def __init__(
        self,
        folder: Path,
        images: Path,
        names: Sequence[str],
        cameras: Mapping[str, Camera] | None = None,
    ) -> None:
        self.folder, self.images, self.names = folder, images, list(names)
        self.database, self.sparse = folder / "database.db", folder / "sparse"
        self.cameras_known = cameras is not None
        # a camera -> the names of its images, and how COLMAP reads them
        self.groups: dict[str, tuple[list[str], pycolmap.ImageReaderOptions]] = {}
        for name in self.names:
            camera = None if cameras is None else cameras[name]
            if camera is None:
                key = _taken_with(images / name)
            else:
                key = f"{camera.lens} {camera.numbers().tolist()}"
            if key not in self.groups:
                options = pycolmap.ImageReaderOptions() if camera is None else _reader(camera)
                self.groups[key] = ([], options)
            self.groups[key][0].append(name)
        pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value

    @property
    def has_model(self) -> bool:
        return self.sparse.is_dir()

    def model(self) -> pycolmap.Reconstruction:
        """The whole model, read anew: what is done to it does not reach the folder."""
        return pycolmap.Reconstruction(str(self.sparse))

    def keep(self, model: pycolmap.Reconstruction) -> None:
        """Write the whole model, or nothing."""
        whole = self.empty("sparse.whole")
        model.write_binary(str(whole))
        os.replace(whole, self.sparse)
        shutil.rmtree(self.folder / "sparse.partial", ignore_errors=True)

    def empty(self, name: str) -> Path:
        """An empty folder of that name in the work folder."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def clear(self) -> None:
        """Throw away the database and the model."""
        shutil.rmtree(self.sparse, ignore_errors=True)
        for file in self.folder.glob("database.db*"):
            file.unlink()


def first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
