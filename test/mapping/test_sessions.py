"""When references were taken: kept through files, parts and joins."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.editing import merge, write_part
from pixloc_ros.mapping.schema import MapError
from pixloc_ros.mapping.sessions import Session, Sessions, day_of

DAY, NIGHT = Session("day", 1.7e9), Session("night")


def test_a_part_knows_only_its_own():
    both = Sessions((DAY, NIGHT), np.array([0, 1, 1, 0], np.int32))
    part = both.part(np.array([False, True, True, False]))
    assert part.every == (NIGHT,)
    assert part.of.tolist() == [0, 0]
    assert both.part(np.array([3, 1])).of.tolist() == [0, 1]


def test_the_same_session_of_two_maps_is_one():
    joined = Sessions.joined(
        [Sessions((DAY, NIGHT), np.array([1, 0], np.int32)), Sessions.one(NIGHT, 3)]
    )
    assert joined.every == (DAY, NIGHT)
    assert joined.of.tolist() == [1, 0, 1, 1, 1]


def test_maps_keep_them(room, tmp_path):
    with PixMap(room.map_file) as first:
        count = len(first)
        assert len(first.sessions.every) == 1
        night = tmp_path / "night.pixmap.h5"
        half = np.arange(count) < count // 2
        everything = np.ones(first.point_count, bool)
        write_part(first, night, half, everything)
        write_part(first, tmp_path / "rest.pixmap.h5", ~half, everything)
    with h5py.File(night, "r+") as file:
        del file["sessions"], file["references/session"]
        Sessions.one(NIGHT, count // 2).write(file)
    with PixMap(night) as one, PixMap(tmp_path / "rest.pixmap.h5") as other:
        merge([one, other], tmp_path / "both.pixmap.h5")
    with PixMap(tmp_path / "both.pixmap.h5") as both:
        both.verify()
        assert both.sessions.every == (NIGHT, Session(""))
        assert both.sessions.of.tolist() == [0] * (count // 2) + [1] * (count - count // 2)


def test_a_map_of_before_has_one(room, tmp_path):
    old = tmp_path / "old.pixmap.h5"
    old.write_bytes(room.map_file.read_bytes())
    with h5py.File(old, "r+") as file:
        del file["sessions"], file["references/session"]
    with PixMap(old) as pixmap:
        assert pixmap.sessions.every == (Session(),)
        assert len(pixmap.sessions.of) == len(pixmap)


@pytest.mark.parametrize("broken", ["number", "length", "text", "time"])
def test_damaged_ones_are_told(room, tmp_path, broken):
    file_name = tmp_path / "broken.pixmap.h5"
    file_name.write_bytes(room.map_file.read_bytes())
    with h5py.File(file_name, "r+") as file:
        if broken == "number":
            file["references/session"][0] = 7
        elif broken == "length":
            del file["references/session"]
            file["references/session"] = np.zeros(2, np.int32)
        else:
            text = "{" if broken == "text" else '{"name": "day", "begun": "nan"}'
            file["sessions"][0] = text
    with pytest.raises(MapError, match=r"broken\.pixmap\.h5: damaged map"):
        PixMap(file_name)


def test_days():
    assert day_of(float("nan")) == "never"
    assert day_of(1e300) == "at an unknown time"
    assert day_of(1.7e9).startswith("2023-11-")
