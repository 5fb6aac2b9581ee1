"""Curves of measurements."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def plot_basin(curves: Sequence[Mapping[str, Any]], output: str | os.PathLike[str]) -> None:
    """Write a PNG of success against the error of the start.

    curves: each `label` and `points` with degrees, metres, found (share), as `basin` writes them.
    """
    figure = Figure(figsize=(7, 4.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for curve in curves:
        points = curve["points"]
        axes.plot(
            [p["degrees"] for p in points],
            [100 * p["found"] for p in points],
            "o-",
            label=curve["label"],
        )
    first = curves[0]["points"]
    axes.set_xticks(
        [p["degrees"] for p in first], [f"{p['degrees']:g}°\n{p['metres']:.3g} m" for p in first]
    )
    axes.set_ylim(-3, 103)
    axes.set_xlabel("error of the start")
    axes.set_ylabel("aligned to the truth, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(output)
