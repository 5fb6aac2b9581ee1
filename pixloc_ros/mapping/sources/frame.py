"""Where the frame of a map comes from that structure from motion makes of images alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from pixloc_ros.datasets.exif_gps import read_gps
from pixloc_ros.datasets.text import ListError, data_lines, finite_numbers
from pixloc_ros.mapping.frame import (
    find_marker,
    scale_upright,
    to_marker,
    to_positions,
    with_position,
)


@dataclass(frozen=True)
class MapFrame:
    """One of: positions, a file of them; gps, from EXIF; marker, the side of one in metres;
    scale, metres per unit. None of them leaves the frame as it comes out.

    gps_altitude: metres, of images that have none.
    """

    positions: Path | None = None
    gps: bool = False
    gps_altitude: float | None = None
    marker: float | None = None
    scale: float | None = None

    def prepare(
        self, images: Path, names: Sequence[str], say: Callable[[str], None]
    ) -> Callable[[pycolmap.Reconstruction], str]:
        """What moves a model into the frame, and gives its name.

        What lacks is said here, before hours of work. Raises InputError.
        """
        if self.positions is not None or self.gps:
            known = (
                read_positions(self.positions)
                if self.positions is not None
                else read_gps(images, names, self.gps_altitude, say)
            )
            with_position(names, known)
            return lambda model: self._to_positions(model, known, say)
        if self.marker:
            side, marker = self.marker, find_marker(images, names)

            def move(model: pycolmap.Reconstruction) -> str:
                views = to_marker(model, marker, side)
                say(f"in the frame of marker {marker.name}, seen in {views} images")
                return f"marker {marker.name}"

            return move
        return lambda model: self._scaled(model, say)

    def _to_positions(
        self,
        model: pycolmap.Reconstruction,
        known: Mapping[str, np.ndarray],
        say: Callable[[str], None],
    ) -> str:
        used, left = to_positions(model, known)
        say(f"in the frame of {used} known positions, {left:.3f} m from them (median)")
        return "gps" if self.gps else "positions"

    def _scaled(self, model: pycolmap.Reconstruction, say: Callable[[str], None]) -> str:
        if self.scale:
            scale_upright(model, self.scale)
            return "scale"
        say("the map has no metres: give --positions, --gps, --marker or --scale for a robot")
        return "arbitrary"


def read_positions(path: Path) -> dict[str, np.ndarray]:
    """Metres by name, from lines `name x y z`. Raises ListError."""
    found: dict[str, np.ndarray] = {}
    for where, entries in data_lines(path):
        if len(entries) != 4:
            raise ListError(f"{where}: expected 'name x y z'")
        if entries[0] in found:
            raise ListError(f"{where}: {entries[0]} is listed twice")
        found[entries[0]] = finite_numbers(where, entries[1:])
    return found
