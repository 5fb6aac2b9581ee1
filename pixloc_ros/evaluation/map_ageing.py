"""How a map has aged: what drives say of each of its references, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from pixloc_ros.localization.gating import InlierModel
from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.health import MapHealth, PointHealth, ReferenceHealth
from pixloc_ros.mapping.sessions import day_of

SEEN = 20
"""Judged observations from which a reference's share is looked at."""
FRAMES, REFUSED = 5, 0.8
"""Frames, each of another place, and share of them refused, from which nothing can be localized at
a reference."""
GOOD, USABLE = 0.6, 0.3
"""Least fit of a reference that is as it was, and of one that still helps: between chance (0) and
what references reach with each other when the map is new (1)."""
APART = 3.0
"""References this many usual steps apart belong to one area."""


class Age(str, Enum):
    """What the last drives found at a reference.

    GOOD: what the map shows. AGED: part of it. UNUSABLE: hardly any of it, or no pose at all.
    UNVISITED: nothing is known of it.
    """

    GOOD = "good"
    AGED = "aged"
    UNUSABLE = "unusable"
    UNVISITED = "unvisited"


@dataclass(frozen=True)
class Area:
    """References of one age beside each other. centre: (3,) of their cameras, in the map.

    looking: (3,) unit vector, where they look on average.
    """

    age: Age
    references: tuple[int, ...]
    centre: np.ndarray
    looking: np.ndarray
    last: float


@dataclass(frozen=True)
class MapAge:
    """ages: of each reference. fit: (R,), NaN where it was not judged. areas: those to look after,
    worst first. gone: points (P,) that are taken for gone.
    """

    ages: tuple[Age, ...]
    fit: np.ndarray
    areas: tuple[Area, ...]
    gone: np.ndarray

    @property
    def usable(self) -> bool:
        return Age.UNUSABLE not in self.ages

    def as_text(self, names: Sequence[str]) -> str:
        count = {age: self.ages.count(age) for age in Age}
        lines = [
            f"{len(self.ages)} references: "
            + ", ".join(f"{count[age]} {age.value}" for age in Age)
            + f"; {self.gone.mean():.1%} of the points are gone"
        ]
        for area in self.areas:
            x, y, z = area.centre
            lines.append(
                f"  {area.age.value:9} at {x:.2f} {y:.2f} {z:.2f}: {len(area.references)} "
                f"references, {names[area.references[0]]} the first; "
                f"last visited {day_of(area.last)}"
            )
            if area.age is not Age.UNVISITED:
                u, v, w = area.looking
                lines.append(
                    f"{'':12}take {max(2, math.ceil(len(area.references) / 2))} images or more "
                    f"from there, looking along {u:+.2f} {v:+.2f} {w:+.2f}"
                )
        return "\n".join(lines)


def map_age(
    pixmap: PixMap, references: ReferenceHealth, points: PointHealth, inliers: InlierModel
) -> MapAge:
    """Judge each reference by the last session that used it.

    inliers: of the map's finest level.
    """
    judged = references.judged >= SEEN
    share = references.found / np.maximum(references.judged, 1)
    fit = np.where(judged, inliers.fit(share), np.nan)
    refused = (references.frames >= FRAMES) & (references.refused >= REFUSED * references.frames)
    ages = []
    for reference in range(len(pixmap)):
        if refused[reference] or fit[reference] < USABLE:
            ages.append(Age.UNUSABLE)
        elif not judged[reference]:
            ages.append(Age.UNVISITED)
        else:
            ages.append(Age.GOOD if fit[reference] >= GOOD else Age.AGED)
    areas = []
    for age in (Age.UNUSABLE, Age.AGED, Age.UNVISITED):
        chosen = np.array([i for i, own in enumerate(ages) if own is age], int)
        areas += _areas(pixmap, age, chosen, references.last)
    return MapAge(tuple(ages), fit, tuple(areas), points.gone)


def age_by(health: MapHealth, pixmap: PixMap) -> MapAge:
    """The age of a map by what drives found of it. Raises HealthError."""
    inliers = InlierModel.of(pixmap.statistics[-1])
    return map_age(pixmap, health.references(), health.points(), inliers)


def _areas(pixmap: PixMap, age: Age, chosen: np.ndarray, last: np.ndarray) -> list[Area]:
    """References that are near to each other, the largest groups first."""
    if not len(chosen):
        return []
    centres, axes = pixmap.centres(), pixmap.poses.rotation[:, 2].numpy()
    steps, _ = KDTree(centres).query(centres, k=[min(2, len(centres))])
    reach = APART * max(float(np.median(steps)), 1e-9)
    pairs = KDTree(centres[chosen]).query_pairs(reach, output_type="ndarray")
    links = coo_matrix(
        (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(chosen), len(chosen))
    )
    count, label = connected_components(links, directed=False)
    found = []
    for number in range(count):
        members = chosen[label == number]
        looking = axes[members].mean(0)
        stamps = last[members][np.isfinite(last[members])]
        found.append(
            Area(
                age,
                tuple(members.tolist()),
                centres[members].mean(0),
                looking / max(float(np.linalg.norm(looking)), 1e-9),
                float(stamps.max()) if len(stamps) else math.nan,
            )
        )
    return sorted(found, key=lambda area: -len(area.references))
