"""Poses by stamp and trees of frames, as the node and recordings look them up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixloc_ros.sensors import frame_name
from pixloc_ros.sensors.pose_series import PoseSeries
from pixloc_ros.sensors.transform_tree import OutsideError, TransformError, TransformTree

SECOND = 1_000_000_000


def at(x, w=1.0, **turn):
    return (float(x), 0.0, 0.0, w, turn.get("qx", 0.0), 0.0, 0.0)


def transform(parent, child, stamp=0, x=0.0, w=1.0):
    name = SimpleNamespace
    return name(
        header=name(frame_id=parent, stamp=name(sec=stamp // SECOND, nanosec=stamp % SECOND)),
        child_frame_id=child,
        transform=name(
            translation=name(x=x, y=0.0, z=0.0), rotation=name(x=0.0, y=0.0, z=0.0, w=w)
        ),
    )


def message(*transforms):
    return SimpleNamespace(transforms=list(transforms))


def test_names_lose_one_slash():
    assert [frame_name(n) for n in ("map", "/map", "//map", "a/b", "")] == [
        *("map", "map", "/map", "a/b", "")
    ]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_a_series_is_sorted_whatever_the_order_and_keeps_its_span(stamps):
    series = PoseSeries(20)
    for stamp in stamps:
        series.add(stamp, at(stamp))
    assert series.stamps == sorted(set(series.stamps))
    newest = max(stamps)
    kept = {s for s in stamps if s >= newest - 20}
    # what is within the span is there, unless it came too late for it
    assert {s for s in series.stamps if s >= newest - 20} <= kept
    assert series.stamps[-1] == newest
    assert series.at(newest).translation[0] == newest


def test_a_series_interpolates_and_knows_its_ends():
    series = PoseSeries()
    series.add(10, at(1))
    series.add(30, at(3))
    series.add(20, at(9))
    series.add(20, at(2))  # the same stamp again
    assert series.at(25).translation[0] == 2.5
    assert series.at(20).translation[0] == 2
    assert series.at(9) is None
    assert series.at(31) is None
    assert series.at(9, 1).translation[0] == 1
    assert series.at(32, 2).translation[0] == 3
    assert series.newest().translation[0] == 3


def test_a_tree_connects_frames_over_their_common_ancestor():
    tree = TransformTree()
    assert (
        tree.add(message(transform("/map", "odom", 0, 1.0), transform("odom", "/base", 0, 2.0)))
        == 0
    )
    tree.add(message(transform("odom", "base", 2 * SECOND, 4.0)))
    assert tree.add(message(transform("base", "cam", 0, 0.5)), static=True) == 0
    assert tree.lookup("odom", "cam", SECOND).translation[0] == 3.5
    assert tree.lookup("odom", "cam", None).translation[0] == 4.5
    assert tree.lookup("cam", "base", 7 * SECOND).translation[0] == -0.5
    assert tree.ancestors("cam") == ["cam", "base", "odom", "map"]
    # what is beyond the common ancestor does not count
    with pytest.raises(OutsideError, match="map to odom: after"):
        tree.lookup("map", "cam", SECOND)
    with pytest.raises(TransformError, match="no transform connects map and arm"):
        tree.lookup("map", "arm", None)


def test_bad_transforms_cost_only_themselves():
    tree = TransformTree()
    bad = (
        transform("base", "wheel", 0, float("nan")),
        transform("base", "wheel", 0, float("inf")),
        transform("base", "wheel", 0, 0.0, 0.0),
        transform("base", "base"),
        transform("", "wheel"),
        transform("base", ""),
        transform("base", "wheel", -SECOND),
    )
    assert tree.add(message(*bad, transform("base", "cam", 0, 1.0))) == len(bad)
    assert tree.lookup("base", "cam", 0).translation[0] == 1
    assert tree.parents("wheel") == []


def test_a_frame_with_two_parents_hangs_on_the_last_one():
    tree = TransformTree()
    for parent in ("arm", "table", "arm"):
        tree.add(message(transform(parent, "cup")))
    assert tree.parents("cup") == ["arm", "table"]
    assert tree.ancestors("cup") == ["cup", "arm"]


def test_a_circle_ends():
    tree = TransformTree()
    tree.add(message(transform("a", "b"), transform("b", "a")))
    assert tree.ancestors("a") == ["a", "b"]
    with pytest.raises(TransformError):
        tree.lookup("map", "a", None)
