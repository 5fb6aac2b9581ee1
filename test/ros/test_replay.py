"""A drive through a place, as three processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pixloc_ros.datasets.bag import read_ground_truth, write_bag
from pixloc_ros.datasets.rendered_room import mount
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.replay import ReplayReport
from pixloc_ros.files import installed
from pixloc_ros.ros.replay import replay


@pytest.fixture
def bag(room, tmp_path):
    write_bag(room.sequence, tmp_path / "bag", mount())
    return tmp_path / "bag"


def test_a_recording_is_replayed_to_the_node(room, bag):
    # slow enough for two frames on any machine
    settings, profile = ["-p", "device:=cpu"], installed("config/fastdds.xml")
    watcher = replay(bag, room.map_file, settings, profile, rate=0.15)
    report = ReplayReport.of(len(room.sequence.frames), watcher.answers, read_ground_truth(bag))
    assert len(report.stamps) >= 1
    assert report.metres.max() < 0.03
    assert report.degrees.max() < 0.5
    assert (report.latency_ms > 0).all()
    # no transform before the first pose; both leave the node at once, on two topics
    first_frame = room.sequence.frames[0].stamp
    assert all(answer.stamp > first_frame for answer in watcher.answers)
    assert watcher.transforms[0][0] > watcher.answers[0].stamp
    assert len(watcher.odometry) > 40


def test_a_node_that_cannot_start_ends_the_replay(bag, tmp_path):
    with pytest.raises(InputError, match="the node ended with exit code 1"):
        replay(bag, tmp_path / "none.pixmap.h5", [], installed("config/fastdds.xml"))


def test_a_folder_that_is_no_recording(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pixloc_ros.ros.player", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
