"""Curves of measurements."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pixloc_ros.errors import InputError


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


class Errors(Protocol):
    """metres, degrees: (Q,), infinite where there is no answer."""

    @property
    def metres(self) -> np.ndarray: ...

    @property
    def degrees(self) -> np.ndarray: ...


def plot_cumulative(errors: Mapping[str, Errors], output: str | os.PathLike[str]) -> None:
    """Write the share of queries below each error, in metres and in degrees, a curve a name.

    output: PNG, SVG or PDF by its suffix. Raises InputError for another one.
    """
    if Path(output).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"{output}: a plot is a .png, .svg or .pdf")
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, unit in zip(figure.subplots(1, 2), ("metres", "degrees"), strict=True):
        for name, one in errors.items():
            # the axis is logarithmic
            values = np.sort(getattr(one, unit)).clip(min=1e-6)
            finite = values[np.isfinite(values)]
            share = 100 * np.arange(1, len(finite) + 1) / len(values)
            axes.step(finite, share, where="post", label=Path(name).name)
        axes.set_xscale("log")
        axes.set_ylim(0, 103)
        axes.set_xlabel(f"error, {unit}")
        axes.set_ylabel("queries below, %")
        axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.savefig(output)
