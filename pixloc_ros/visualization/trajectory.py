"""A drive seen from above, in its map."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.axes import Axes

from pixloc_ros.visualization.style import BLUE, PURPLE, VERMILION, new_figure, panels, save


def widest(path: np.ndarray) -> list[int]:
    """The two axes along which a path (n, 3) spreads most, in their order."""
    return sorted(np.argsort(np.ptp(path, axis=0), kind="stable")[1:].tolist())


def finish(axes: Axes, shown: np.ndarray, plane: list[int], title: str) -> None:
    """Look at positions (n, 2) and some way around them, in metres along two axes of the map."""
    low, high = shown.min(0), shown.max(0)
    margin = 0.35 * max(float((high - low).max()), 1e-6)
    axes.set_xlim(low[0] - margin, high[0] + margin)
    axes.set_ylim(low[1] - margin, high[1] + margin)
    axes.set_aspect("equal")
    axes.set_xlabel(f"{'xyz'[plane[0]]} in m")
    axes.set_ylabel(f"{'xyz'[plane[1]]} in m")
    axes.set_title(title)
    axes.legend(loc="upper right")


def plot_trajectory(
    output: str | os.PathLike[str],
    points: np.ndarray,
    references: np.ndarray,
    truth: np.ndarray,
    estimates: np.ndarray,
    odometry: np.ndarray,
    title: str,
) -> None:
    """All positions are (n, 3) in the map frame, metres, and may be empty but truth.

    odometry: the path that odometry alone would have given from the first fix.
    """
    plane = widest(np.concatenate([truth, references.reshape(-1, 3)]))

    def flat(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = positions.reshape(-1, 3)[:, plane].T
        return x, y

    figure = new_figure(9, 7)
    (axes,) = panels(figure)
    axes.plot(*flat(points), ".", color="0.75", markersize=1.5, label="map points", zorder=1)
    axes.plot(*flat(references), "^", color=BLUE, markersize=4, label="references", zorder=2)
    if len(odometry):
        axes.plot(*flat(odometry), ":", color=PURPLE, label="odometry alone", zorder=3)
    axes.plot(*flat(truth), "-", color="black", linewidth=1.2, label="ground truth", zorder=4)
    axes.plot(
        *flat(estimates), "o", color=VERMILION, markersize=3.5, label="published poses", zorder=5
    )
    # outliers of the point cloud would shrink the drive to a dot
    both = np.concatenate([truth[:, plane], references.reshape(-1, 3)[:, plane]])
    finish(axes, both, plane, title)
    save(figure, output)
