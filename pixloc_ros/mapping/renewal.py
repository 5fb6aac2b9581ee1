"""A map of before and what was built of new images in its frame, as one."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pixloc_ros.mapping.editing import merge, usefulness, write_part
from pixloc_ros.mapping.health import MapHealth, health_path
from pixloc_ros.mapping.map_file import PixMap
from pixloc_ros.mapping.schema import SUFFIX, MapError

FEWEST = 30
"""Points that a reference must still have when others are left out."""


def gone_points(pixmap: PixMap) -> np.ndarray:
    """Points (P,) that drives found gone; none where nothing is kept beside the map.

    Raises HealthError.
    """
    path = health_path(pixmap.path)
    if not path.is_file():
        return np.zeros(pixmap.point_count, bool)
    with MapHealth(pixmap, path) as health:
        return health.points().gone


def renew(
    old: PixMap,
    new: PixMap,
    output: Path,
    gone: np.ndarray,
    budget_mb: float | None,
    say: Callable[[str], object],
) -> None:
    """Write both maps as one, without the points (P,) of the old one that are gone.

    Poses and points that stay are those of before, to the bit. budget_mb: size of the file, to
    which the least useful points are left out. Raises MapError; `output` is whole or not there.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(dir=output.resolve().parent)))
        if gone.any():
            stays = old.observation_counts_of(~gone) >= FEWEST
            step = {"step": "retire", "points": int(gone.sum()), "references": int((~stays).sum())}
            write_part(old, folder / f"stays{SUFFIX}", stays, ~gone, [step])
            say(f"{gone.sum()} points and {(~stays).sum()} references of before are left out")
            old = stack.enter_context(PixMap(folder / f"stays{SUFFIX}"))
        whole = output if budget_mb is None else folder / f"whole{SUFFIX}"
        merge([old, new], whole)
        if budget_mb is None:
            return
        joined = stack.enter_context(PixMap(whole))
        useful = np.argsort(-usefulness(joined), kind="stable")
        count, written = len(useful), whole
        # useful points have more observations than others: the size tells how many there are
        while (size := written.stat().st_size / 2**20) > budget_mb:
            count = int(0.98 * count * budget_mb / size)
            if count < FEWEST:
                raise MapError(f"{output}: no map of this place fits into {budget_mb:g} MB")
            points = np.zeros(len(useful), bool)
            points[useful[:count]] = True
            written = folder / f"small{SUFFIX}"
            write_part(joined, written, np.ones(len(joined), bool), points)
        os.replace(written, output)
