"""Curves of measurements."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure

from pixloc_ros.visualization.style import BLUE, GRAY, new_figure, panels, save


def plot_basin(curves: Sequence[Mapping[str, Any]], output: str | os.PathLike[str]) -> None:
    """Write success against the error of the start.

    curves: each `label` and `points` with degrees, metres, found (share), as `basin` writes them.
    """
    figure = new_figure(7, 4.5)
    (axes,) = panels(figure)
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
    axes.legend()
    save(figure, output)


def plot_sizes(costs: Sequence[Mapping[str, Any]], output: str | os.PathLike[str]) -> None:
    """Write time and memory of a query against the size of the map.

    costs: of each size, as `evaluation.map_sizes.SizeCost` names them.
    """
    figure = new_figure(10, 4.2)
    times, memory = panels(figure, 1, 2)
    sizes = [cost["references"] for cost in costs]
    for key, label in (
        ("open_ms", "opening the map"),
        ("first_ms", "a query, surroundings never read"),
        ("search_ms", "a query without prior"),
        ("prior_ms", "a query with prior"),
        ("index_ms", "of it, the search by descriptor"),
    ):
        times.plot(sizes, [cost[key] for cost in costs], "o-", label=label)
    times.set(xscale="log", yscale="log", xlabel="references", ylabel="ms")
    for key, label in (
        ("open_mib", "once it is open"),
        ("query_mib", "after queries"),
        ("read_mib", "read from the file by the first query"),
    ):
        memory.plot(sizes, [cost[key] for cost in costs], "o-", label=label)
    memory.set(xscale="log", xlabel="references", ylabel="MiB")
    memory.set_ylim(0)
    for axes in (times, memory):
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, output)


class Errors(Protocol):
    """metres, degrees: (Q,), infinite where there is no answer."""

    @property
    def metres(self) -> np.ndarray: ...

    @property
    def degrees(self) -> np.ndarray: ...


def cumulative(errors: Mapping[str, Errors]) -> Figure:
    """The share of queries below each error, in metres and in degrees, a curve a name."""
    figure = new_figure(9, 4)
    both = panels(figure, 1, 2)
    for axes, unit in zip(both, ("metres", "degrees"), strict=True):
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
    both[-1].legend()
    return figure


def plot_starts(starts: Errors, ends: Errors, output: str | os.PathLike[str]) -> None:
    """Write the error of every answer against that of the pose it began at."""
    figure = new_figure(9, 4)
    for axes, unit in zip(panels(figure, 1, 2), ("metres", "degrees"), strict=True):
        before = getattr(starts, unit).clip(min=1e-6)
        after = getattr(ends, unit).clip(min=1e-6)
        both = np.concatenate([before, after])
        finite = both[np.isfinite(both)]
        low, high = (finite.min(), finite.max()) if len(finite) else (0.1, 1.0)
        axes.plot([low, high], [low, high], ":", color=GRAY, label="as at the start")
        axes.plot(before, after, "o", color=BLUE, markersize=3.5, label="queries")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(f"error of the start, {unit}")
        axes.set_ylabel(f"error of the answer, {unit}")
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, output)
