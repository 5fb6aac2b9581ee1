"""Videos through OpenCV."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from pixloc_ros.errors import InputError

SUFFIX = ".mp4"


class VideoWriter:
    """Writes RGB images (H, W, 3) as an MP4 that appears under its name when it is whole.

    All images get the size of the first. fps: frames a second. Raises InputError.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float) -> None:
        self.path, self._fps = Path(path), fps
        if self.path.suffix != SUFFIX:
            raise InputError(f"{path}: the name of a video ends in {SUFFIX}")
        self._partial = self.path.with_name(f".{self.path.stem}.{os.getpid()}.partial{SUFFIX}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self.frames = 0

    def add(self, image: np.ndarray) -> None:
        if self._writer is None:
            # the codec takes even sizes
            self._size = (image.shape[1] // 2 * 2, image.shape[0] // 2 * 2)
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._partial), code, self._fps, self._size)
            if not self._writer.isOpened():
                raise InputError(f"{self.path}: OpenCV cannot write a video there")
        if image.shape[1::-1] != self._size:
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def close(self, keep: bool = True) -> None:
        """keep: False throws away what there is."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if keep:
            os.replace(self._partial, self.path)
        else:
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(keep=kind is None)


def encode(images: Iterable[np.ndarray], fps: float) -> bytes:
    """The bytes of an MP4 of RGB images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"video{SUFFIX}"
        with VideoWriter(path, fps) as writer:
            for image in images:
                writer.add(image)
        return path.read_bytes()
