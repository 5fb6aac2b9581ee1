"""Pose errors as a table, as JSON and as a page."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixloc_ros.evaluation.metrics import THRESHOLDS, PoseErrors


def _rows(errors: PoseErrors) -> list[tuple[str, PoseErrors]]:
    scenes = errors.scenes()
    rows = list(scenes.items()) if len(scenes) > 1 else []
    return [*rows, ("all", errors)]


def _cells(name: str, errors: PoseErrors) -> list[str]:
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
    return table(dict(_rows(errors)))


def table(rows: Mapping[str, PoseErrors]) -> str:
    """One line a name."""
    lines = [HEADINGS, *(_cells(*row) for row in rows.items())]
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
    before = dict(_rows(baseline))
    for name, part in _rows(errors):
        old = before[name]
        lines += [_cells(f"{name}, baseline", old), _cells(name, part)]
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
        **{name: summary(part) for name, part in _rows(errors)},
        "per_query": {
            name: {"m": _number(float(m)), "deg": _number(float(d))}
            for name, m, d in zip(errors.names, errors.metres, errors.degrees, strict=True)
        },
    }


@dataclass(frozen=True)
class Exhibit:
    """A query that is worth a look. picture: JPEG, or None where there is none."""

    name: str
    reason: str
    picture: bytes | None


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --bad: #d55e00; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem;
  padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
td, th { padding: .25em .55em; text-align: right; border-bottom: 1px solid var(--line); }
td:first-child, th:first-child { text-align: left; white-space: nowrap; }
.curves { background: white; border-radius: 6px; padding: .5rem; }
.curves svg { width: 100%; height: auto; display: block; }
.worst { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
figure img { width: 100%; height: auto; display: block; }
figcaption { padding: .6rem .8rem; overflow-wrap: anywhere; }
figcaption b { color: var(--bad); }
"""


def as_html(
    errors: PoseErrors,
    title: str,
    curves: str = "",
    exhibits: Sequence[Exhibit] = (),
    text: str = "",
) -> str:
    """One self-contained page: the table, curves, queries with pictures, every query.

    curves: SVG. exhibits: worst first. text: what else was measured, line by line.
    """

    def grid(rows: Sequence[Sequence[str]], tag: str = "td") -> str:
        return "".join(
            "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in row) + "</tr>\n"
            for row in rows
        )

    def error(i: int) -> str:
        if not math.isfinite(errors.metres[i]):
            return "no pose"
        return f"{errors.metres[i]:.4f} m, {errors.degrees[i]:.3f} deg"

    number = {name: i for i, name in enumerate(errors.names)}
    figures = []
    for exhibit in exhibits:
        picture = ""
        if exhibit.picture is not None:
            data = base64.b64encode(exhibit.picture).decode()
            picture = f"<img src='data:image/jpeg;base64,{data}' alt='reprojections'>"
        figures.append(
            f"<figure>{picture}<figcaption>{html.escape(exhibit.name)}<br>"
            f"<b>{error(number[exhibit.name])}</b><br>{html.escape(exhibit.reason)}"
            "</figcaption></figure>"
        )
    order = np.argsort(-errors.metres, kind="stable")
    queries = [
        [errors.names[i], f"{errors.metres[i]:.4f}", f"{errors.degrees[i]:.3f}"] for i in order
    ]
    # an XML declaration has no place inside of a page
    drawn = curves[curves.index("<svg") :] if curves else ""
    parts = [
        "<!doctype html>",
        "<html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        "<p>Recalls are percentages; a query without a pose counts as infinitely wrong.</p>",
        f"<div class='wide'><table>{grid([HEADINGS], 'th')}",
        grid([_cells(*row) for row in _rows(errors)]),
        "</table></div>",
        *([f"<pre class='wide'>{html.escape(text)}</pre>"] if text else []),
        *([f"<h2>Errors</h2><div class='curves'>{drawn}</div>"] if drawn else []),
    ]
    if figures:
        parts += [
            f"<h2>The worst {len(figures)}</h2>",
            "<p>Points of the map where they were aligned: green fits, orange is the bound of an "
            "inlier, red is beyond.</p>",
            f"<div class='worst'>{''.join(figures)}</div>",
        ]
    parts += [
        "<h2>Queries, worst first</h2>",
        f"<div class='wide'><table>{grid([['query', 'm', 'deg']], 'th')}",
        f"{grid(queries)}</table></div>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"
