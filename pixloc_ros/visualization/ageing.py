"""A map from above, with what drives found of it; maps of a changing place, day by day."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixloc_ros.visualization.style import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    VERMILION,
    new_figure,
    panels,
    save,
)
from pixloc_ros.visualization.trajectory import finish, widest

COLOURS = {"good": GREEN, "aged": ORANGE, "unusable": VERMILION, "unvisited": GRAY}


def plot_ages(
    output: str | os.PathLike[str],
    points: np.ndarray,
    gone: np.ndarray,
    centres: np.ndarray,
    axes_of_view: np.ndarray,
    ages: Sequence[str],
    title: str,
) -> None:
    """Draw points (n, 3), those that are gone (m, 3), and cameras (R, 3) with where they look.

    ages: of each camera, a word of COLOURS. All in the map frame, metres.
    """
    plane = widest(centres)
    figure = new_figure(9, 7)
    (axes,) = panels(figure)
    axes.plot(*points[:, plane].T, ".", color="0.8", markersize=1.5, label="points", zorder=1)
    if len(gone):
        axes.plot(*gone[:, plane].T, "x", color=BLUE, markersize=4, label="gone", zorder=2)
    words = np.asarray(ages)
    for word, colour in COLOURS.items():
        chosen = words == word
        if chosen.any():
            axes.quiver(
                *centres[chosen][:, plane].T,
                *axes_of_view[chosen][:, plane].T,
                color=colour,
                label=f"{word} ({chosen.sum()})",
                angles="xy",
                width=0.003,
                scale=30,
                zorder=3,
            )
    finish(axes, centres[:, plane], plane, title)
    save(figure, output)


def plot_days(output: str | os.PathLike[str], drives: Sequence[Mapping[str, Any]]) -> None:
    """Draw the share of frames with a fix and the median error, day by day and map by map.

    drives: what `evaluation.ageing_simulation` writes, see its `Drive`.
    """
    figure = new_figure(9, 6)
    above, below = panels(figure, 2, 1, sharex=True)
    for name in dict.fromkeys(drive["map"] for drive in drives):
        own = [drive for drive in drives if drive["map"] == name]
        days = [drive["day"] for drive in own]
        above.plot(days, [drive["fixes"] / drive["frames"] for drive in own], label=name)
        below.plot(days, [1e3 * drive["median_m"] for drive in own])
    above.set_ylabel("share of frames with a fix")
    above.set_ylim(0, 1.02)
    above.legend(loc="lower left")
    below.set_ylabel("median error in mm")
    below.set_xlabel("day")
    save(figure, output)


if __name__ == "__main__":
    plot_days(sys.argv[2], json.loads(Path(sys.argv[1]).read_text()))
