"""The process with the maps and the network: it answers as an map_set does, and may die."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import pixloc_ros.localization.map_set_process as map_set_process_module
from pixloc_ros.errors import InputError
from pixloc_ros.features import read_image
from pixloc_ros.localization import LocalizerOptions, Prior, Status, View
from pixloc_ros.localization.map_set_process import MapSetProcess, ProcessLost, RaisedThere
from pixloc_ros.localization.map_set_server import MapSetSettings


@pytest.fixture
def settings(room):
    # the runtime of the localizer that it is compared with
    options = LocalizerOptions(runtime="torch")
    return MapSetSettings(str(room.map_file), options=options, robot_frames=("odom", "base_link"))


@pytest.fixture
def process(settings):
    said: list[str] = []
    served = MapSetProcess(said.append, said.append)
    served.said = said
    served.serve(settings)
    yield served
    served.close()


@pytest.fixture
def frame(room):
    frame = room.sequence.frames[2]
    image = read_image(room.sequence.images / frame.name)
    return [View(image, frame.camera)], Prior(frame.truth)


def test_answers_as_it_would_here(process, localizer, frame):
    views, prior = frame
    assert [submap.name for submap in process.facts.submaps] == ["room"]
    assert process.facts.references == len(localizer.map)
    for start in (None, prior):
        there, here = process.localize_views(views, start), localizer.localize_views(views, start)
        assert there.ok
        assert there.statistics.points == here.statistics.points
        # sums over threads differ in their last digits
        moved = there.cam_from_map.translation - here.cam_from_map.translation
        assert float(moved.norm()) < 1e-5
        apart = there.reprojections[0].pixels - here.reprojections[0].pixels
        assert np.abs(apart).max() < 0.05
    assert process.health.resident_mb > 100
    # a larger moment, and a smaller one again
    wide = views[0].camera.resize(1280, 960)
    large = View(np.zeros((960, 1280, 3), np.uint8), wide)
    assert process.localize_views([views[0], large], prior).status is not Status.BAD_INPUT
    assert process.localize_views(views, prior).ok


def test_what_cannot_be_served_leaves_what_was(process, settings, frame, tmp_path):
    broken = tmp_path / "broken.pixmap.h5"
    broken.write_bytes(b"nothing")
    before = process.facts
    for path in (str(broken), str(tmp_path / "none.pixmap.h5")):
        with pytest.raises(InputError, match=os.path.basename(path)):
            process.serve(MapSetSettings(path))
    with pytest.raises(InputError, match="frame map is the robot's"):
        process.serve(MapSetSettings(settings.path, robot_frames=("map",)))
    assert process.facts is before
    assert process.localize_views(*frame).ok


@pytest.mark.parametrize(
    ("number", "text"), [(signal.SIGKILL, "out of memory"), (signal.SIGSEGV, "SIGSEGV")]
)
def test_a_death_is_said_and_mended(process, frame, number, text):
    os.kill(process.pid, number)
    with pytest.raises(ProcessLost, match=text):
        process.localize_views(*frame)
    with pytest.raises(ProcessLost, match="not running"):
        process.localize_views(*frame)
    process.restart()
    assert process.localize_views(*frame).ok


def test_a_process_that_hangs_is_ended(process, frame, monkeypatch):
    monkeypatch.setattr(map_set_process_module, "PATIENCE", 1.0)
    pid = process.pid
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(ProcessLost, match="hung: no answer for 1 s"):
        process.localize_views(*frame)
    assert time.monotonic() - begun < 5
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    process.restart()


def test_no_memory_costs_a_frame(process, frame):
    """As much as it has, and not a byte more."""
    views, prior = frame
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0])
    used = pages * os.sysconf("SC_PAGE_SIZE")
    before = resource.prlimit(process.pid, resource.RLIMIT_AS, (used, -1))
    huge = View(np.zeros((4000, 6000, 3), np.uint8), views[0].camera.resize(6000, 4000))
    with pytest.raises((RaisedThere, ProcessLost)):
        process.localize_views([huge], prior)
    if process.pid is None:
        process.restart()
    else:
        resource.prlimit(process.pid, resource.RLIMIT_AS, before)
    assert process.localize_views(views, prior).ok


def test_closing_lets_go_of_whoever_waits(settings, frame):
    process = MapSetProcess(print, print)
    process.serve(settings)
    os.kill(process.pid, signal.SIGSTOP)
    lost: list[str] = []

    def wait():
        try:
            process.localize_views(*frame)
        except ProcessLost as error:
            lost.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    process.close()
    thread.join(5)
    assert lost == ["closed"]
    with pytest.raises(ProcessLost):
        process.serve(settings)


def test_ctrl_c_is_not_for_it(process, frame):
    os.kill(process.pid, signal.SIGINT)
    assert process.localize_views(*frame).ok
