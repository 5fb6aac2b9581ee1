"""How sure poses in a map are: factors that a map learns from its own references."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import h5py

from pixloc_ros.errors import require_room
from pixloc_ros.mapping.schema import MapError

ATTRIBUTE = "calibration"
"""Of the file, beside what its checksum is of: the same map may be calibrated again."""


def read_calibration(file: h5py.File) -> tuple[float, float] | None:
    """Factors on the standard deviations of translation and rotation, None where unknown.

    Raises ValueError for what are none.
    """
    told = file.attrs.get(ATTRIBUTE)
    if told is None:
        return None
    translation, rotation = (float(v) for v in json.loads(str(told)))
    if not all(math.isfinite(v) and v > 0 for v in (translation, rotation)):
        raise ValueError(f"calibration {told}")
    return translation, rotation


def as_attribute(factors: tuple[float, float]) -> str:
    """Three digits: more are not known, and other machines find the same."""
    return json.dumps([float(f"{factor:.3g}") for factor in factors])


def write_calibration(path: Path, factors: tuple[float, float]) -> None:
    """Give a map its factors. The file is replaced when the new one is on disk.

    Raises MapError where that cannot be.
    """
    temporary = path.with_name(f".{path.name}.calibrated")
    require_room(path.parent, path.stat().st_size)
    try:
        shutil.copyfile(path, temporary)
        with h5py.File(temporary, "r+") as file:
            file.attrs[ATTRIBUTE] = as_attribute(factors)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise MapError(f"{path}: not calibrated ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)
