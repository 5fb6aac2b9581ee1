"""Where photographs were taken, by their EXIF."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from PIL import Image, UnidentifiedImageError

from pixloc_ros.errors import InputError
from pixloc_ros.left_out import LeftOut

LEAST = 3
GPS_IFD = 0x8825
# of the GPS directory: references and degrees, and the altitude's sign and metres
SOUTH_NORTH, LATITUDE, WEST_EAST, LONGITUDE, BELOW, ALTITUDE = 1, 2, 3, 4, 5, 6


def read_gps(
    images: Path,
    names: Sequence[str],
    altitude: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, np.ndarray]:
    """Metres east, north and up of the first image, of those that say where they were taken.

    altitude: metres, of images that have none; else the others' median, or zero, which is said.
    Raises InputError where less than `LEAST` have a position.
    """
    found: dict[str, tuple[float, float, float | None]] = {}
    left_out = LeftOut("position")
    for name in names:
        position, reason = _position(images / name)
        if position is not None:
            found[name] = position
        elif reason:
            left_out.add(reason, name)
    if left_out:
        say(left_out.as_text())
    if len(found) < LEAST:
        why = f" ({left_out.most})" if left_out else ""
        raise InputError(
            f"{images}: {len(found)} images with a GPS position, {LEAST} are needed{why}"
        )
    known = [height for _, _, height in found.values() if height is not None]
    missing = len(found) - len(known)
    assumed = altitude if altitude is not None else float(np.median(known)) if known else 0.0
    if missing:
        whose = (
            "as given" if altitude is not None else "the others' median" if known else "assumed"
        )
        say(f"{missing} images have a GPS position without altitude: {assumed:g} m, {whose}")
    ordered = sorted(found)
    degrees = np.array(
        [
            (found[n][0], found[n][1], assumed if found[n][2] is None else found[n][2])
            for n in ordered
        ],
        float,
    )
    east = pycolmap.GPSTransform().ellipsoid_to_enu(degrees, *degrees[0])
    return dict(zip(ordered, np.asarray(east), strict=True))


def _position(path: Path) -> tuple[tuple[float, float, float | None] | None, str]:
    """Degrees and metres, or the reason where there is a position that cannot be used."""
    try:
        with Image.open(path) as image:
            gps = image.getexif().get_ifd(GPS_IFD)
    except (OSError, UnidentifiedImageError, ValueError, TypeError, KeyError, SyntaxError):
        return None, "in EXIF that cannot be read"
    if LATITUDE not in gps or LONGITUDE not in gps:
        return None, ""
    latitude = _degrees(gps[LATITUDE], gps.get(SOUTH_NORTH, "N"), "S")
    longitude = _degrees(gps[LONGITUDE], gps.get(WEST_EAST, "E"), "W")
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None, "that is not on earth"
    if latitude == longitude == 0.0:
        return None, "of zero degrees, as receivers without a fix give it"
    return (latitude, longitude, _height(gps)), ""


def _degrees(parts: Any, reference: Any, negative: str) -> float | None:
    try:
        listed = parts if isinstance(parts, (tuple, list)) else (parts,)
        degrees, minutes, seconds = (*map(float, listed), 0.0, 0.0)[:3]
    except (ValueError, TypeError, ZeroDivisionError):
        return None
    value = degrees + minutes / 60 + seconds / 3600
    if not math.isfinite(value):
        return None
    letter = reference.decode(errors="replace") if isinstance(reference, bytes) else str(reference)
    return -value if letter.strip("\0 ").upper() == negative else value


def _height(gps: Any) -> float | None:
    try:
        metres = float(gps[ALTITUDE])
    except (KeyError, ValueError, TypeError, ZeroDivisionError):
        return None
    if not math.isfinite(metres):
        return None
    return -metres if gps.get(BELOW) in (b"\x01", 1) else metres
