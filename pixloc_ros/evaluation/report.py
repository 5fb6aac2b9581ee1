"""Pose errors as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pixloc_ros.evaluation.metrics import THRESHOLDS, PoseErrors


def rows_of(errors: PoseErrors) -> list[tuple[str, PoseErrors]]:
    """The scenes, where there are several, and all together."""
    scenes = errors.scenes()
    rows = list(scenes.items()) if len(scenes) > 1 else []
    return [*rows, ("all", errors)]


def cells(name: str, errors: PoseErrors) -> list[str]:
    """What stands under HEADINGS."""
    metres, degrees = errors.medians()
    recalls = [f"{100 * errors.recall(m, d):.1f}" for m, d in THRESHOLDS]
    return [
        name,
        str(len(errors)),
        str(errors.missing),
        f"{metres:.4f}",
        f"{degrees:.3f}",
        *recalls,
    ]


HEADINGS = [
    "scene",
    "queries",
    "missing",
    "median m",
    "median deg",
    *(f"{m:g}m,{d:g}deg" for m, d in THRESHOLDS),
]


def as_table(errors: PoseErrors) -> str:
    """A table for the terminal; recalls are percentages."""
    return table(dict(rows_of(errors)))


def table(rows: Mapping[str, PoseErrors]) -> str:
    """One line a name."""
    lines = [HEADINGS, *(cells(*row) for row in rows.items())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def comparison(errors: PoseErrors, baseline: PoseErrors) -> str:
    """Both in one table, a line of differences under each, and the queries that got worse.

    Worse: outside of a recall's bounds where the baseline is inside.
    """
    lines = [HEADINGS]
    before = dict(rows_of(baseline))
    for name, part in rows_of(errors):
        old = before[name]
        lines += [cells(f"{name}, baseline", old), cells(name, part)]
        changes = [100 * (part.recall(m, d) - old.recall(m, d)) for m, d in THRESHOLDS]
        marks = [f"{c:+.1f}{'!' if c < 0 else ''}" for c in changes]
        lines.append(["", "", "", "", "", *marks])
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    text = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    for i in np.argsort(-errors.metres, kind="stable"):
        lost = [
            f"{m:g}m,{d:g}deg"
            for m, d in THRESHOLDS
            if (baseline.metres[i] <= m and baseline.degrees[i] <= d)
            and not (errors.metres[i] <= m and errors.degrees[i] <= d)
        ]
        if lost:
            text.append(
                f"worse: {errors.names[i]}  {baseline.metres[i]:.4f} m "
                f"{baseline.degrees[i]:.3f} deg -> {errors.metres[i]:.4f} m "
                f"{errors.degrees[i]:.3f} deg, no longer within {lost[0]}"
            )
    return "\n".join(text)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_json(errors: PoseErrors) -> dict[str, Any]:
    """Plain values; an infinite error is null."""

    def summary(part: PoseErrors) -> dict[str, Any]:
        metres, degrees = part.medians()
        return {
            "queries": len(part),
            "missing": part.missing,
            "median_m": _number(metres),
            "median_deg": _number(degrees),
            "recall": {f"{m:g}m,{d:g}deg": part.recall(m, d) for m, d in THRESHOLDS},
        }

    return {
        **{name: summary(part) for name, part in rows_of(errors)},
        "per_query": {
            name: {"m": _number(float(m)), "deg": _number(float(d))}
            for name, m, d in zip(errors.names, errors.metres, errors.degrees, strict=True)
        },
    }
