"""Pictures of one recorded answer."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator

from pixloc_ros.localization import RecordedFrame, Reprojections
from pixloc_ros.mapping import PixMap
from pixloc_ros.visualization.overlay import draw_reprojections
from pixloc_ros.visualization.style import (
    BLUE,
    GRAY,
    GREEN,
    VERMILION,
    new_figure,
    panels,
    save,
    show,
)

REFERENCES = 2
"""References that are shown beside a query."""


def supporters(frame: RecordedFrame, count: int = REFERENCES) -> list[int]:
    """The references that most inliers of the last step were seen by, best first."""
    if frame.trace is None:
        return []
    fits = frame.trace.references[frame.trace.residual[-1] < 1]
    return [int(number) for number, _ in Counter(fits.tolist()).most_common(count)]


def _in_reference(frame: RecordedFrame, pixmap: PixMap, reference: int) -> Reprojections:
    """Where a reference shows the points that it lent, with their residual in the query."""
    assert frame.trace is not None
    own = frame.trace.references == reference
    camera = pixmap.camera(reference)
    inside = pixmap.pose(reference).transform(torch.from_numpy(frame.points[own]))
    pixels, _ = camera.project(inside)
    return Reprojections(pixels.numpy(), frame.trace.residual[-1][own])


def plot_reprojections(
    frame: RecordedFrame,
    pixmap: PixMap,
    images: Mapping[str, np.ndarray],
    output: str | os.PathLike[str],
) -> None:
    """Write the query beside the references that agree most: the same points in all of them,
    green where they fit.

    images: of references, by name; those that are missing are left out.
    """
    names = pixmap.names
    shown = [r for r in supporters(frame) if names[r] in images]
    views = list(range(len(frame.views)))
    figure = new_figure(4.6 * (len(views) + len(shown)), 4.2)
    axes = panels(figure, 1, len(views) + len(shown))
    for view in views:
        drawn = draw_reprojections(frame.views[view].image, frame.reprojections(-1, view))
        show(axes[view], drawn, frame.name if view == 0 else f"view {view + 1}")
    for place, reference in zip(axes[len(views) :], shown, strict=True):
        name = names[reference]
        show(
            place, draw_reprojections(images[name], _in_reference(frame, pixmap, reference)), name
        )
    figure.suptitle(frame.facts["reason"], fontsize=10)
    save(figure, output)


def plot_convergence(
    frame: RecordedFrame, levels: tuple[tuple[int, int], ...], output: str | os.PathLike[str]
) -> None:
    """Write how the points came to fit, and how far the pose still had to go, step by step.

    levels: (image size, network level) of the map's levels.
    """
    trace = frame.trace
    if trace is None:
        raise ValueError("nothing was aligned")
    last = trace.pose(-1)
    metres, degrees, inliers, median = [], [], [], []
    for step in range(len(trace)):
        distance, angle = trace.pose(step).distance(last)
        metres.append(float(distance))
        degrees.append(float(torch.rad2deg(angle)))
        visible = np.isfinite(trace.residual[step])
        seen = trace.residual[step][visible]
        inliers.append(100 * float((seen < 1).sum()) / max(len(seen), 1))
        median.append(float(np.median(seen)) if len(seen) else np.nan)
    figure = new_figure(7.5, 6)
    fit, way, turn = panels(figure, 3, 1, sharex=True)
    steps = np.arange(len(trace))
    fit.plot(steps, inliers, "o-", color=GREEN, markersize=3)
    fit.set_ylabel("inliers, %")
    fit.set_ylim(0, 103)
    beside = fit.twinx()
    beside.plot(steps, median, "s--", color=VERMILION, markersize=3)
    beside.set_ylabel("median residual", color=VERMILION)
    beside.set_ylim(0, None)
    # the last pose is at zero, which a logarithm has not
    way.semilogy(steps[:-1], np.maximum(metres[:-1], 1e-7), "o-", color=BLUE, markersize=3)
    way.set_ylabel("still to go, m")
    turn.semilogy(steps[:-1], np.maximum(degrees[:-1], 1e-6), "o-", color=BLUE, markersize=3)
    turn.set_ylabel("still to go, deg")
    turn.set_xlabel("step")
    turn.xaxis.set_major_locator(MaxNLocator(integer=True))
    starts = [0, *(np.flatnonzero(np.diff(trace.levels.astype(int))) + 1).tolist(), len(trace)]
    for number, (begin, end) in enumerate(pairwise(starts)):
        size, level = levels[int(trace.levels[begin])]
        for axes in (fit, way, turn):
            axes.axvspan(begin - 0.5, end - 0.5, color=GRAY, alpha=0.18 * (number % 2), lw=0)
        fit.text(begin - 0.4, 5, f"{size} px\nlevel {level}", fontsize=7)
    for axes in (way, turn):
        axes.grid(alpha=0.3)
    save(figure, output)


def plot_scene(frame: RecordedFrame, pixmap: PixMap, output: str | os.PathLike[str]) -> None:
    """Write the map in 3D with its references, what the query was aligned with, and its way."""
    figure = new_figure(8, 7)
    axes: Any = panels(figure, subplot_kw={"projection": "3d"})[0]
    rng = np.random.default_rng(0)
    cloud = pixmap.some_points(1_000_000)
    cloud = cloud[rng.permutation(len(cloud))[:20_000]]
    # far points would shrink the place to a dot
    low, high = np.percentile(cloud, [2, 98], axis=0)
    centres = pixmap.centres()
    low, high = np.minimum(low, centres.min(0)), np.maximum(high, centres.max(0))
    cloud = cloud[((cloud >= low) & (cloud <= high)).all(1)]
    axes.scatter(*cloud.T, s=0.5, color=GRAY, alpha=0.4, depthshade=False)
    axes.scatter(*centres.T, s=8, color=BLUE, marker="^", label="references", depthshade=False)
    if frame.trace is not None:
        fits = frame.trace.residual[-1] < 1
        axes.scatter(
            *frame.points[fits].T, s=2, color=GREEN, label="points that fit", depthshade=False
        )
        way = np.stack(
            [frame.trace.pose(k).inverse().translation.numpy() for k in range(len(frame.trace))]
        )
        axes.plot(*way.T, "-o", color=VERMILION, markersize=3, label="the camera's way")
    axes.set_box_aspect(np.maximum(high - low, 1e-6))
    axes.set(xlabel="x, m", ylabel="y, m", zlabel="z, m", title=frame.name)
    axes.legend(loc="upper left")
    save(figure, output)
