"""How evenly transforms are sent, as a table, by a node of its own process."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pixloc_ros.ros import transform_gaps


def test_the_table(room):
    image = room.root / "images" / "db" / "0000.jpg"
    command = [sys.executable, "-m", "pixloc_ros.ros.transform_gaps", "--map", str(room.map_file)]
    command += ["--image", str(image), "--hz", "4", "--seconds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    rates = dict(re.findall(r"^ *(map -> odom|plain timer) +([\d.]+)", done.stdout, re.M))
    assert 5 < float(rates["map -> odom"]) < 60
    assert 5 < float(rates["plain timer"]) < 60
    frames, fixes = map(int, re.search(r"(\d+) frames of 8, (\d+) fixes", done.stdout).groups())
    assert frames >= fixes > 0


@pytest.mark.parametrize(
    ("missing", "message"), [("map", "no such map file"), ("image", "no.jpg")]
)
def test_what_is_missing_is_said_in_one_line(room, tmp_path, capsys, missing, message):
    given = {"map": room.map_file, "image": room.root / "images" / "db" / "0000.jpg"}
    given[missing] = tmp_path / "no.jpg"
    assert transform_gaps.run([x for k, v in given.items() for x in (f"--{k}", str(v))]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_absurd_numbers_are_refused(room, capsys):
    given = ["--map", str(room.map_file), "--image", "a.jpg"]
    with pytest.raises(SystemExit) as end:
        transform_gaps.run([*given, "--hz", "0"])
    assert end.value.code == 2
    assert "--hz 0 is not in 0 to 10000" in capsys.readouterr().err
