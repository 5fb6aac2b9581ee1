"""What messages cost, as a table."""

from __future__ import annotations

import re

import pytest

from pixloc_ros.ros import input_cost


def test_each_kind_of_message_has_its_cost(monkeypatch, capsys):
    monkeypatch.setattr(input_cost, "MESSAGES", 100)
    assert input_cost.run(["--joints", "10"]) == 0
    rows = re.findall(
        r"(.+?) +([\d.]+) us a message, ([\d.]+) of making it", capsys.readouterr().out
    )
    assert [row[0] for row in rows] == ["odometry", "/tf of 10    frames"]
    assert all(float(row[1]) > 0 for row in rows)


def test_absurd_numbers_are_refused(capsys):
    with pytest.raises(SystemExit) as end:
        input_cost.run(["--joints", "0"])
    assert end.value.code == 2
    assert "--joints 0 is not in 1 to 10000" in capsys.readouterr().err
