"""Images of fixes at places where the map is weak, kept to make it new: `build_map --refresh`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from pixloc_ros.datasets import read_poses
from pixloc_ros.datasets.text import ListError
from pixloc_ros.localization.result import LocalizationResult
from pixloc_ros.localization.viewpoints import Viewpoints
from pixloc_ros.localization.views import View
from pixloc_ros.mapping.health import Judgement
from pixloc_ros.mapping.sources.refresh import CAMERAS, POSES

WEAK, FEW = 0.8, 100
"""A map is weak where less than this share of the judged points is found, or fewer can be."""
QUALITY = 95
"""Of JPEG."""


class FrameKeeper:
    """Keeps images of one map in a folder. warn: told why no more are kept.

    room_mb: bytes of the folder, in MB, from which on nothing more is kept.
    """

    def __init__(self, folder: Path, room_mb: float, warn: Callable[[str], object]) -> None:
        self._folder, self._left, self._warn = folder, room_mb * 2**20, warn
        self._kept = Viewpoints()
        self._open = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._left -= sum(f.stat().st_size for f in folder.iterdir() if f.is_file())
            if (folder / POSES).is_file():
                self._kept = Viewpoints(read_poses(folder / POSES).values())
        except (OSError, ListError) as error:
            self._end(str(error))

    def offer(
        self,
        result: LocalizationResult,
        views: Sequence[View],
        judgement: Judgement | None,
        stamp: float,
    ) -> None:
        """Keep the first view of a fix where the map is weak and nothing was kept yet."""
        if not self._open or not self._is_weak(judgement):
            return
        if not self._kept.enter(result.cam_from_map):
            return
        view, name = views[0], f"{stamp:.6f}.jpg"
        model = view.camera.colmap()
        if model is None:
            self._end("COLMAP has no model for this camera")
            return
        gray = view.image.ndim == 2
        code = cv2.COLOR_GRAY2BGR if gray else cv2.COLOR_RGB2BGR
        options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        jpeg = cv2.imencode(".jpg", cv2.cvtColor(view.image, code), options)[1].tobytes()
        if len(jpeg) > self._left:
            self._end("there is no more room for it")
            return
        width, height = (int(v) for v in view.camera.size.tolist())
        numbers = " ".join(f"{v:.12g}" for v in (width, height, *model[1]))
        pose = result.cam_from_map
        seven = torch.cat([pose.quaternion(), pose.translation]).tolist()
        try:
            making = self._folder / f".{name}"
            making.write_bytes(jpeg)
            os.replace(making, self._folder / name)
            # listed last: what is listed is there
            _append(self._folder / CAMERAS, f"{name} {model[0]} {numbers}\n")
            _append(self._folder / POSES, f"{name} {' '.join(map(repr, seven))}\n")
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        self._left -= len(jpeg)

    def _is_weak(self, judgement: Judgement | None) -> bool:
        if judgement is None or len(judgement.points) < FEW:
            return True
        return float(np.mean(judgement.found)) < WEAK

    def _end(self, reason: str) -> None:
        self._open = False
        self._warn(f"{self._folder}: no more images are kept: {reason}")


def _append(file: Path, line: str) -> None:
    with file.open("a") as opened:
        opened.write(line)
