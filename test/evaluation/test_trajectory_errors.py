"""Errors of sequences."""

from __future__ import annotations

import json

import pytest
import torch

from pixloc_ros.cli.main import main
from pixloc_ros.datasets import write_poses
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.trajectory import trajectory_errors
from pixloc_ros.geometry import Pose

pytest.importorskip("evo", reason="ATE and RPE are computed by evo")


def line(offsets):
    """Cameras one metre apart along x, off by so much along y."""
    return {
        f"{i}.jpg": Pose.from_quaternion([1, 0, 0, 0], [float(i), y, 0]).inverse()
        for i, y in enumerate(offsets)
    }


STAMPS = {f"{i}.jpg": float(i) for i in range(4)}


def test_absolute_and_relative():
    found = trajectory_errors(line([0, 0, 0, 0]), line([0.3, 0.3, 0.3, 0.7]), STAMPS)
    assert found.poses == 4
    assert found.ate_m == pytest.approx(((3 * 0.09 + 0.49) / 4) ** 0.5)
    assert found.ate_max_m == pytest.approx(0.7)
    # constant offsets cancel between neighbours
    assert found.rpe_m == pytest.approx((0.16 / 3) ** 0.5)
    assert found.rpe_max_m == pytest.approx(0.4)
    assert found.rpe_deg == pytest.approx(0, abs=1e-6)
    turned = line([0, 0, 0, 0])
    tilt = Pose.from_rotvec(torch.tensor([0, 0, 0.1]).double(), torch.zeros(3).double())
    turned["3.jpg"] = tilt @ turned["3.jpg"]
    found = trajectory_errors(line([0, 0, 0, 0]), turned, STAMPS)
    assert found.rpe_max_deg == pytest.approx(5.7296, abs=1e-3)


def test_in_the_order_of_time_and_only_what_was_found():
    truth = line([0, 0, 0, 0])
    results = line([0, 0.2, 0, 0])
    backwards = {name: -stamp for name, stamp in STAMPS.items()}
    one, two = (trajectory_errors(truth, results, s) for s in (STAMPS, backwards))
    assert one.rpe_m == pytest.approx(two.rpe_m)
    del results["1.jpg"]
    assert trajectory_errors(truth, results, STAMPS).rpe_m == pytest.approx(0, abs=1e-9)
    with pytest.raises(InputError, match="1 poses found"):
        trajectory_errors(truth, {"0.jpg": truth["0.jpg"]}, STAMPS)


def test_evaluate_prints_them(tmp_path, capsys):
    write_poses(tmp_path / "t.txt", line([0, 0, 0, 0]))
    write_poses(tmp_path / "r.txt", line([0.5, 0.5, 0.5, 0.5]))
    stamps = tmp_path / "s.txt"
    stamps.write_text("".join(f"{n} {s}\n" for n, s in STAMPS.items()))
    command = ["evaluate", "--ground-truth", tmp_path / "t.txt", "--results", tmp_path / "r.txt"]
    more = ["--timestamps", stamps, "--json", tmp_path / "n.json"]
    assert main([str(a) for a in [*command, *more]]) == 0
    assert "ATE 0.5000 m rms" in capsys.readouterr().out
    assert json.loads((tmp_path / "n.json").read_text())["trajectory"]["poses"] == 4
    stamps.write_text("0.jpg 0\n")
    assert main([str(a) for a in [*command, *more]]) == 1
    assert "no stamp for 1.jpg" in capsys.readouterr().err
