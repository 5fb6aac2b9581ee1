"""What a believed pose says of the points of the map: still there, or not any more."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

from pixloc_ros.localization.gating import SURE_FIT, InlierModel
from pixloc_ros.localization.result import LocalizationResult, Reprojections
from pixloc_ros.localization.spread import GRID, cells
from pixloc_ros.localization.views import View
from pixloc_ros.mapping.health import Judgement

WITNESSES = 30
"""Points outside of a cell that must be found for its points to be judged."""
ELSEWHERE = 3
"""Least number of other cells in which points are found."""
NEIGHBOURS = 0.03
"""Of the image's longer side: points this near to each other in the image may cover each other."""
SIDEWAYS, NEARER = math.radians(15), 1.5
"""A point is missed only where a reference saw it from about there: within this angle, and at most
this many times as near or as far. From elsewhere features differ as well."""
BEHIND = 0.85
"""A point is covered by a found one at less than this share of its depth."""


def judge_points(
    result: LocalizationResult, views: Sequence[View], inliers: InlierModel
) -> Judgement | None:
    """Judge the points that a fix was aligned with; None where it says nothing of any.

    No point confirms itself. The points of a part of the image are judged only where the points
    of the other parts alone would have the pose believed: enough of them are found, in several
    parts, and they fit better than a pose needs (SURE_FIT). So a cupboard that was moved speaks
    neither for itself nor against the room. What lies behind a found point is not judged, nor
    missed what all references saw from elsewhere. inliers: of the finest level of the map.
    """
    judged = [
        _judge_view(seen, view, inliers)
        for seen, view in zip(result.reprojections, views, strict=True)
    ]
    points, found, shown_by, shown = (
        np.concatenate([part[i] for part in judged]) for i in range(4)
    )
    if not len(points):
        return None
    every, place = np.unique(points, return_inverse=True)
    there = np.zeros(len(every), bool)
    np.logical_or.at(there, place, found)
    references = np.unique(np.concatenate([seen.references for seen in result.reprojections]))
    return Judgement(every, there, references, shown_by, shown)


def _judge_view(
    seen: Reprojections, view: View, inliers: InlierModel
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points with whether each is found, and references with whether each observation is."""
    fits = seen.residual < 1.0
    size = np.asarray(view.camera.size, float)
    cell = cells(seen.pixels, size)
    in_cell = np.bincount(cell, minlength=GRID**2)
    found_in_cell = np.bincount(cell[fits], minlength=GRID**2)
    others, found = in_cell.sum() - in_cell, found_in_cell.sum() - found_in_cell
    filled = found_in_cell > 0
    elsewhere = filled.sum() - filled
    fit = inliers.fit(found / np.maximum(others, 1))
    trusted = (found >= WITNESSES) & (fit >= SURE_FIT) & (elsewhere >= ELSEWHERE)
    # a point that one reference shows as it was is there
    every, place = np.unique(seen.points, return_inverse=True)
    there = np.zeros(len(every), bool)
    np.logical_or.at(there, place, fits)
    hidden = _covered(seen, there[place], NEIGHBOURS * float(size.max()))
    apart = np.maximum(seen.nearer, 1 / np.maximum(seen.nearer, 1e-6))
    comparable = (seen.angle < SIDEWAYS) & (apart < NEARER)
    judged = trusted[cell] & (there[place] | (comparable & ~hidden))
    chosen = np.unique(place[judged])
    return every[chosen], there[chosen], seen.references[judged], fits[judged]


def _covered(seen: Reprojections, there: np.ndarray, radius: float) -> np.ndarray:
    """Which observations (n,) lie behind a found point that the image shows beside them."""
    covered = np.zeros(len(there), bool)
    if not there.any() or there.all():
        return covered
    tree, depth = KDTree(seen.pixels[there]), seen.depth[there]
    missed = np.flatnonzero(~there)
    for i, near in zip(missed, tree.query_ball_point(seen.pixels[missed], radius), strict=True):
        covered[i] = bool(len(near)) and depth[near].min() < BEHIND * seen.depth[i]
    return covered
