"""The former names of `pixloc_ros.mapping.sfm`, until version 0.2."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

from pixloc_ros.datasets.exif_gps import read_gps
from pixloc_ros.mapping.sfm import SfmWorkspace, find_images, prepare

__all__ = ["Workshop", "find_images"]

warnings.warn(
    "pixloc_ros.mapping.structure is pixloc_ros.mapping.sfm, and Workshop is SfmWorkspace",
    DeprecationWarning,
    stacklevel=2,
)


class Workshop(SfmWorkspace):
    """As `SfmWorkspace`, with what is functions of their own now."""

    def prepare(self, facts: Mapping[str, object]) -> None:
        """As `sfm.prepare`."""
        prepare(self, facts)

    def positions_by_gps(self) -> dict[str, np.ndarray]:
        """As `exif_gps.read_gps`."""
        return read_gps(self.images, self.names)
