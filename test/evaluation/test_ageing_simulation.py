"""A room that changes, and the drives through it."""

from __future__ import annotations

import json

import numpy as np

from pixloc_ros.datasets.changing_room import NIGHT, ChangingRoom
from pixloc_ros.datasets.rendered_room import INTRINSICS, base_pose, make_room, mount
from pixloc_ros.evaluation.ageing_simulation import run
from pixloc_ros.features import read_image
from pixloc_ros.geometry import Camera
from pixloc_ros.visualization.ageing import plot_days

CAMERA = Camera.from_colmap("PINHOLE", 160, 120, [v / 4 for v in INTRINSICS[3]])


def views(scene):
    poses = [mount().inverse() @ base_pose(time, 1.0).inverse() for time in (0.0, 13.0, 27.0)]
    return np.stack([scene.render(CAMERA, pose)[0] for pose in poses])


def test_it_begins_as_the_room_and_changes_bit_by_bit():
    rooms = [ChangingRoom(7) for _ in range(2)]
    first = views(rooms[0].scene())
    assert np.array_equal(first, views(make_room(7)))
    changed = []
    for _ in range(40):
        for room in rooms:
            room.sleep()
        changed.append((np.abs(views(rooms[0].scene()) - first).max(-1) > 10).mean())
    assert np.array_equal(views(rooms[0].scene()), views(rooms[1].scene()))
    assert changed[1] < 0.2
    assert 0.3 < changed[-1] < 0.95
    assert changed[9] < changed[29]


def test_one_night_a_week():
    room = ChangingRoom(7)
    gains = []
    for _ in range(14):
        gains.append(room.light().mean())
        room.sleep()
    assert [day for day, gain in enumerate(gains) if gain < 0.5] == [NIGHT, NIGHT + 7]


def test_three_maps_are_driven_by(tmp_path, capsys):
    report = tmp_path / "days.json"
    small = ["--days", "1", "--frames", "6", "--references", "16", "--every", "1"]
    small += ["motion.drift=0.06"]
    assert run(["--folder", str(tmp_path / "room"), *small, "--json", str(report)]) == 0
    drives = json.loads(report.read_text())
    assert [drive["map"] for drive in drives] == ["static", "adapted", "refreshed"]
    assert [drive["fixes"] for drive in drives] == [6, 6, 6]
    assert [drive["wrong"] for drive in drives] == [0, 0, 0]
    assert [drive["sidecar_mb"] > 0 for drive in drives] == [False, True, True]
    assert "nothing was kept" in capsys.readouterr().out
    plot_days(tmp_path / "days.png", drives)
    assert read_image(tmp_path / "days.png").std() > 5


def test_a_setting_that_the_tracker_does_not_have(tmp_path, capsys):
    assert run(["--folder", str(tmp_path), "motion.drfit=0.1"]) == 1
    assert "drift" in capsys.readouterr().err
