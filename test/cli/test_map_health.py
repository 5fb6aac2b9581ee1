"""`map_health`, and what the process of the node keeps for it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from pixloc_ros.cli.main import main
from pixloc_ros.features import read_image
from pixloc_ros.localization import Decision, Outcome, Prior, State, View
from pixloc_ros.localization.map_set_process import MapSetProcess
from pixloc_ros.localization.map_set_server import MapSetSettings
from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.health import Judgement, MapHealth, health_path


@pytest.fixture
def map_file(room, tmp_path):
    file = tmp_path / "room.pixmap.h5"
    shutil.copy(room.map_file, file)
    return file


def keep(map_file, robot, found, path=None):
    with (
        PixMap(map_file) as pixmap,
        MapHealth(pixmap, path or health_path(map_file), robot) as health,
    ):
        count = 50 * len(pixmap)
        there, by = np.full(count, found), np.repeat(np.arange(len(pixmap)), 50)
        points = np.arange(100)
        said = Judgement(points, there[:100], np.arange(len(pixmap)), by, there)
        for k in range(8):
            health.add(said, 100.0 * k)


def test_a_map_as_it_was(map_file, tmp_path, capsys):
    keep(map_file, "one", True)
    picture = tmp_path / "health.png"
    assert main(["map_health", str(map_file), "--picture", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "8 frames" in out
    assert "0 unusable" in out
    assert "0.0% of the points are gone" in out
    assert read_image(picture).std() > 5


def test_a_map_that_shows_nothing_any_more(map_file, capsys):
    keep(map_file, "one", False)
    assert main(["map_health", str(map_file)]) == 1
    out = capsys.readouterr().out
    assert " 0 good" in out
    assert "images or more from there" in out


def test_the_viewer_shows_it(map_file, monkeypatch, capsys):
    pytest.importorskip("viser", reason="the viewer is built on viser")
    from pixloc_ros.visualization.viewer import Viewer
    from pixloc_ros.visualization.viewer.map_panel import AGES
    from pixloc_ros.visualization.viewer.scene import MapScene

    drawn = []
    monkeypatch.setattr(Viewer, "wait", lambda self: None)
    camera = MapScene.camera
    monkeypatch.setattr(
        MapScene, "camera", lambda self, *args: drawn.append(args[3]) or camera(self, *args)
    )
    assert main(["view", str(map_file), "--health", "--port", "0"]) == 1
    assert "the node makes it" in capsys.readouterr().err
    keep(map_file, "one", False)
    assert main(["view", str(map_file), "--health", "--port", "0"]) == 0
    assert set(drawn) == {AGES["unusable"]}


def test_what_other_robots_found_is_joined(map_file, tmp_path, capsys):
    others = [tmp_path / "two.sqlite", tmp_path / "three.sqlite"]
    for robot, path in zip(("two", "three"), others, strict=True):
        keep(map_file, robot, True, path)
    for _ in range(2):
        assert main(["map_health", str(map_file), "--join", *map(str, others)]) == 0
        assert "16 frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "the node makes it (parameter learn)"),
        (["--health", "none"], "none: no such file"),
        (["--join", "none"], "none: no such file"),
        (["--picture", "/nowhere/a.png"], "no such folder"),
        (["--ray", "auto"], "--ray goes with --join"),
        (["--join", "none", "--processes", "0"], "--processes 0: 1 to 1024"),
    ],
)
def test_mistakes_get_one_line(map_file, capsys, more, message):
    assert main(["map_health", str(map_file), *more]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_the_process_of_the_node_learns(map_file, room):
    frame = room.sequence.frames[2]
    views = [View(read_image(room.sequence.images / frame.name), frame.camera)]
    process = MapSetProcess(lambda text: None, pytest.fail)
    try:
        process.serve(MapSetSettings(str(map_file), device="cpu", learn="observe"))
        for decision in (Decision.FIX, Decision.CANDIDATE, Decision.REFUSED):
            prior = Prior(frame.truth)
            answer = process.localize_views(views, prior)
            assert answer.ok
            outcome = Outcome(decision, answer, None, prior, State.TRACKING)
            process.keep(frame.stamp, outcome)
        process.localize_views(views)  # what was told before is done with
    finally:
        process.close()
    with PixMap(map_file) as pixmap, MapHealth(pixmap, health_path(map_file)) as health:
        assert health.frames() == 2  # a fix, and a refused image
        assert health.references().refused.sum() == 3
        assert (health.points().judged == 1).sum() > 200
