"""What learning of a map costs and changes, on queries with their truth."""

from __future__ import annotations

import json

import pytest

from pixloc_ros.evaluation.learning_cost import run
from pixloc_ros.mapping.health import health_path


@pytest.fixture
def known(room, tmp_path):
    """Three queries of the room, as hloc lists them."""
    chosen = room.sequence.frames[:3]
    cameras, poses = [], []
    for frame in chosen:
        numbers = [*frame.camera.focal.tolist(), *frame.camera.centre.tolist()]
        cameras.append(f"{frame.name} PINHOLE 640 480 {' '.join(map(str, numbers))}\n")
        pose = [*frame.truth.quaternion().tolist(), *frame.truth.translation.tolist()]
        poses.append(f"{frame.name} {' '.join(map(str, pose))}\n")
    (tmp_path / "queries_with_intrinsics.txt").write_text("".join(cameras))
    (tmp_path / "gt_poses.txt").write_text("".join(poses))
    (tmp_path / "images").symlink_to(room.sequence.images)
    return tmp_path


def test_a_place_as_it_was_is_found_as_well(room, known, capsys):
    table = known / "table.json"
    command = ["--map", room.map_file, "--queries", known, "--near", "0.05", "1"]
    assert run([str(a) for a in [*command, "--passes", 2, "--json", table]]) == 0
    rows = {row["learn"]: row for row in json.loads(table.read_text())}
    assert [*rows] == ["none", "observe", "adapt"]
    for row in rows.values():
        assert (row["right"], row["wrong"], row["queries"]) == (3, 0, 3)
        assert 0 < row["median_m"] < 0.01
        assert row["gone"] < 0.01
    assert rows["none"]["kilobytes"] == 0
    assert rows["observe"]["kilobytes"] > 10
    assert rows["observe"]["median_m"] == rows["none"]["median_m"]
    assert "3 of 3 right, 0 wrong" in capsys.readouterr().out
    # the map itself has learned nothing
    assert not health_path(room.map_file).exists()


def test_mistakes_get_one_line(room, tmp_path, capsys):
    assert run(["--map", str(room.map_file), "--queries", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
