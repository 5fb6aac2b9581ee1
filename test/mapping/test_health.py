"""The file in which drives keep what they found of a map: what it counts, and what it survives."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pixloc_ros.mapping.health import (
    GONE,
    REST,
    SESSIONS,
    HealthError,
    Judgement,
    MapHealth,
    health_path,
    robot_name,
)


@dataclass
class Place:
    """What the health of a map needs of it."""

    checksum: str = "a"
    point_count: int = 100

    def __len__(self):
        return 4


def judgement(found, references=(0, 2)):
    points = np.arange(len(found))
    there = np.asarray(found, bool)
    return Judgement(points, there, np.array(references), np.zeros(len(found), int), there)


def test_it_counts_what_was_found(tmp_path):
    file = tmp_path / "a.health.sqlite"
    with MapHealth(Place(), file, "one") as health:
        health.add(judgement([1, 0, 1]), 100.0)
        health.add(judgement([1, 0, 0]), 100.0 + REST)
    with MapHealth(Place(), file) as health:
        points, references = health.points(), health.references()
        assert health.frames() == 2
    assert points.judged[:4].tolist() == [2, 2, 2, 0]
    assert points.found[:4].tolist() == [2, 0, 1, 0]
    assert points.lately[[0, 3]].tolist() == [1.0, 1.0]
    assert points.lately[1] == pytest.approx(0.8**2)
    assert points.lately[2] == pytest.approx(0.8)
    assert references.frames.tolist() == [2, 0, 2, 0]
    assert (references.judged[0], references.found[0]) == (6, 3)
    assert references.last[0] == 100.0
    assert np.isnan(references.last[1])


def test_a_point_is_gone_when_it_is_missed_again_and_again(tmp_path):
    with MapHealth(Place(), tmp_path / "a", "one") as health:
        for k in range(7):
            assert not health.points().gone.any()
            health.add(judgement([0, 1, k % 2]), k * REST)
        points = health.points()
        assert points.gone[:4].tolist() == [True, False, False, False]
        assert points.lately[0] < GONE
        health.add(judgement([1, 1, 1]), 100 * REST)
        assert not health.points().gone.any()  # it came back


def test_who_stands_before_the_camera_counts_once(tmp_path):
    with MapHealth(Place(), tmp_path / "a", "one") as health:
        for k in range(100):
            health.add(judgement([0]), 50.0 + 0.09 * k)
        assert health.points().judged[0] == 1


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_that_jumps_loses_nothing(tmp_path, jump):
    with MapHealth(Place(), tmp_path / "a", "one") as health:
        for stamp in (1e9, 1e9 + jump, 1e9 + 2 * REST):
            health.add(judgement([1]), stamp)
        assert health.points().judged[0] == 3
    with MapHealth(Place(), tmp_path / "a", "one") as health:
        health.add(judgement([1]), 1e9 + 4 * REST)
        assert health.frames() == 4


def test_refused_frames_are_counted_where_they_were_expected(tmp_path):
    with MapHealth(Place(), tmp_path / "a", "one") as health:
        health.add_refusal([1, 3], 5.0)
        found = health.references()
    assert found.refused.tolist() == found.frames.tolist() == [0, 1, 0, 1]
    assert found.judged.sum() == 0


def test_old_sessions_make_room(tmp_path):
    for k in range(SESSIONS + 3):
        with MapHealth(Place(), tmp_path / "a", "one") as health:
            health.add_refusal([0], float(k))
    with MapHealth(Place(), tmp_path / "a") as health:
        assert health.frames() == SESSIONS


def content(file):
    with sqlite3.connect(file) as opened:
        return [
            sorted(opened.execute(f"SELECT * FROM {table}"))
            for table in ("points", "sessions", "visits")
        ]


def test_files_of_several_robots_join_in_any_order(tmp_path):
    random.seed(0)
    for robot in "abc":
        with MapHealth(Place(), tmp_path / robot, robot) as health:
            for k in range(5):
                health.add(judgement([random.random() < 0.5 for _ in range(6)]), k * REST)
    orders = {"one": "abc", "two": "cbabcab"}
    for target, order in orders.items():
        with MapHealth(Place(), tmp_path / target, target) as health:
            for robot in order:
                health.join(tmp_path / robot)
            health.join(tmp_path / "a")
            assert health.points().judged[:6].tolist() == [15] * 6
            assert health.frames() == 15
    assert content(tmp_path / "one") == content(tmp_path / "two")
    # what a robot did since counts, and what it did before does not count twice
    with MapHealth(Place(), tmp_path / "a", "a") as health:
        health.add(judgement([1]), 100 * REST)
    with MapHealth(Place(), tmp_path / "one", "one") as health:
        health.join(tmp_path / "a")
        assert health.points().judged[:2].tolist() == [16, 15]
        with pytest.raises(HealthError, match="no such file"):
            health.join(tmp_path / "none")
        (tmp_path / "broken").write_text("no database" * 99)
        with pytest.raises(HealthError, match="broken: file is not a database"):
            health.join(tmp_path / "broken")
        assert health.points().judged[:2].tolist() == [16, 15]
    with (
        MapHealth(Place("b"), tmp_path / "other", "one") as health,
        pytest.raises(HealthError, match="is not of the map"),
    ):
        health.join(tmp_path / "a")


def test_two_nodes_share_a_file(tmp_path):
    file, errors = tmp_path / "a", []

    def drive(writer):
        try:
            with MapHealth(Place(), file, writer) as health:
                for k in range(50):
                    health.add(judgement([1] * 20), k * REST)
        except HealthError as error:
            errors.append(error)

    threads = [threading.Thread(target=drive, args=(name,)) for name in ("one", "two", "one")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with MapHealth(Place(), file) as health:
        assert health.frames() == 150
        # two nodes of one robot that look at once say it once
        assert 100 <= health.points().judged[0] <= 150


DRIVE = """
import sys, numpy as np
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_health import Place, judgement
from pixloc_ros.mapping.health import MapHealth, REST
with MapHealth(Place(), Path(sys.argv[1]), "robot") as health:
    begin = health.frames()
    for k in range(begin, begin + 100_000):
        health.add(judgement([1] * 50), k * REST)
        print(k + 1, flush=True)
"""


def test_killed_at_any_moment_nothing_is_lost(tmp_path):
    random.seed(1)
    file, told = tmp_path / "a", 0
    command = [sys.executable, "-c", DRIVE, str(file), str(Path(__file__).parent)]
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            told = int(process.stdout.readline())
            time.sleep(random.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
            for line in process.stdout:
                told = int(line) if line.endswith("\n") else told
        with MapHealth(Place(), file) as health:
            frames = health.frames()
            assert frames in (told, told + 1)
            assert health.points().judged[49] == frames


def fill(health):
    for k in range(1, 50):
        health.add(judgement([1] * 5000), k * REST)


def test_a_full_disk_is_said_in_a_line(tmp_path):
    """A file that cannot grow is as a full disk."""
    big = Place("a", 100_000)
    with MapHealth(big, tmp_path / "a", "one") as health:
        health.add(judgement([1] * 10), 0.0)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
            with pytest.raises(HealthError, match="disk"):
                fill(health)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        frames = health.frames()
        assert health.points().judged[0] == frames
        health.add(judgement([1]), 100 * REST)
        assert health.points().judged[0] == frames + 1


def test_files_that_are_not_its_health(tmp_path):
    with MapHealth(Place(), tmp_path / "a", "one"):
        pass
    with pytest.raises(HealthError, match="is of another map"):
        MapHealth(Place("b"), tmp_path / "a")
    with pytest.raises(HealthError, match="no such file"):
        MapHealth(Place(), tmp_path / "none")
    (tmp_path / "text").write_text("hello " * 1000)
    with pytest.raises(HealthError, match="not a database"):
        MapHealth(Place(), tmp_path / "text", "one")
    with pytest.raises(HealthError, match="unable to open"):
        MapHealth(Place(), tmp_path / "no" / "folder", "one")
    with sqlite3.connect(tmp_path / "a") as opened:
        opened.execute("INSERT INTO points VALUES ('x', 1000, 1, 1, 1.0, 0.0)")
    with (
        MapHealth(Place(), tmp_path / "a") as health,
        pytest.raises(HealthError, match="a point that the map does not have"),
    ):
        health.points()


def test_another_map_begins_anew_and_loses_nothing(tmp_path):
    file = tmp_path / "hall.health.sqlite"
    with MapHealth(Place("0123456789"), file, "one") as health:
        health.add(judgement([1]), 0.0)
    with MapHealth(Place("b"), file, "one") as health:
        assert health.frames() == 0
    with MapHealth(Place("0123456789"), tmp_path / "hall.health.01234567.sqlite") as health:
        assert health.frames() == 1


def test_its_name_is_the_maps(tmp_path):
    assert health_path(tmp_path / "hall.pixmap.h5") == tmp_path / "hall.health.sqlite"
    assert robot_name() == robot_name() != ""


def test_a_file_of_another_map_that_cannot_be_moved(tmp_path, monkeypatch):
    with MapHealth(Place(), tmp_path / "a", "one"):
        pass
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(HealthError, match="Read-only"):
        MapHealth(Place("b"), tmp_path / "a", "one")


def refuse(*_):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
