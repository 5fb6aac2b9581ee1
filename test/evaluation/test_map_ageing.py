"""What is said of a map that has aged."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pixloc_ros.evaluation.map_ageing import Age, map_age
from pixloc_ros.localization.gating import InlierModel
from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.health import PointHealth, ReferenceHealth

INLIERS = InlierModel(threshold=1.0, matching=1.0, unrelated=0.0)


@pytest.fixture
def pixmap(room):
    with PixMap(room.map_file) as opened:
        yield opened


def references(count, **numbers):
    values = dict.fromkeys(("frames", "refused", "judged", "found"), 0) | {"last": math.nan}
    return ReferenceHealth(**{k: np.full(count, v) for k, v in (values | numbers).items()})


def points(pixmap, gone=0):
    lately = np.ones(pixmap.point_count)
    lately[:gone] = 0.0
    return PointHealth(np.zeros(len(lately), int), np.zeros(len(lately), int), lately)


@pytest.mark.parametrize(
    ("numbers", "age"),
    [
        ({}, Age.UNVISITED),
        ({"frames": 5, "judged": 10, "found": 10}, Age.UNVISITED),
        ({"frames": 5, "judged": 100, "found": 95}, Age.GOOD),
        ({"frames": 5, "judged": 100, "found": 50}, Age.AGED),
        ({"frames": 5, "judged": 100, "found": 20}, Age.UNUSABLE),
        ({"frames": 4, "refused": 4}, Age.UNVISITED),
        ({"frames": 5, "refused": 4}, Age.UNUSABLE),
        ({"frames": 20, "refused": 10, "judged": 100, "found": 95}, Age.GOOD),
    ],
)
def test_the_age_of_a_reference(pixmap, numbers, age):
    found = map_age(pixmap, references(len(pixmap), **numbers), points(pixmap), INLIERS)
    assert set(found.ages) == {age}
    assert found.usable == (age is not Age.UNUSABLE)


def test_what_to_do_about_it(pixmap):
    count = len(pixmap)
    told = references(count, frames=20, judged=100, found=95, last=1.7e9)
    told.found[0] = 10
    told.judged[1] = 0
    told.last[1] = math.nan
    age = map_age(pixmap, told, points(pixmap, pixmap.point_count // 4), INLIERS)
    bad, unknown = age.areas
    assert (bad.age, bad.references) == (Age.UNUSABLE, (0,))
    assert (unknown.age, unknown.references) == (Age.UNVISITED, (1,))
    assert np.allclose(bad.centre, pixmap.centres()[0])
    assert np.allclose(bad.looking, pixmap.poses[0].rotation[2].numpy())
    text = age.as_text(pixmap.names)
    assert f"{count - 2} good, 0 aged, 1 unusable, 1 unvisited" in text
    assert "25.0% of the points are gone" in text
    assert f"{pixmap.names[0]} the first; last visited 2023-11-14" in text
    assert "last visited never" in text
    assert text.count("take 2 images or more") == 1
    told.last[0] = 1e18  # a clock that was never set
    assert "at an unknown time" in map_age(pixmap, told, points(pixmap), INLIERS).as_text(
        pixmap.names
    )


def test_neighbours_are_one_area(pixmap):
    everything = references(len(pixmap), frames=20, refused=20, last=1.7e9)
    areas = map_age(pixmap, everything, points(pixmap), INLIERS).areas
    assert sum(len(area.references) for area in areas) == len(pixmap)
    assert len(areas) < len(pixmap) / 2
