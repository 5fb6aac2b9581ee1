"""Success against the error of the start, on the rendered room."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pixloc_ros.cli.main import main
from pixloc_ros.evaluation.basin import basin, displaced
from pixloc_ros.features import read_image
from pixloc_ros.geometry import Pose


def test_displaced_by_exactly_what_was_asked():
    truth = Pose.from_rotvec(torch.tensor([0.3, 0.2, -0.5]).double(), torch.ones(3).double())
    for seed in range(5):
        start = displaced(truth, 0.4, 20.0, np.random.default_rng(seed))
        metres, radians = start.distance(truth)
        assert float(metres) == pytest.approx(0.4, abs=1e-9)
        assert float(torch.rad2deg(radians)) == pytest.approx(20.0, abs=1e-6)


def test_near_starts_succeed_and_hopeless_ones_do_not(room, localizer):
    frames = room.sequence.frames[:3]
    queries = [
        (lambda f=f: read_image(room.sequence.images / f.name), f.camera, f.truth) for f in frames
    ]
    starts = ((2.5, 0.05), (120.0, 3.0))
    near, hopeless = basin(localizer, queries, (0.05, 5.0), starts=starts)
    assert near.found == near.accepted == 1.0
    assert hopeless.found == hopeless.accepted == 0.0
    assert near.starts == 3


def test_the_command_writes_curve_and_picture(room, tmp_path, capsys):
    root = room.root
    base = ["basin", "--map", room.map_file, "--images", root / "images"]
    base += ["--queries", root / "queries_with_intrinsics.txt"]
    base += ["--ground-truth", root / "gt_poses.txt", "--every", 5]
    first, second, plot = (tmp_path / n for n in ("a.json", "b.json", "p.png"))
    assert main([str(a) for a in [*base, "--json", first, "--label", "one"]]) == 0
    more = [*base, "--json", second, "--plot", plot, "--against", first, "references=1"]
    assert main([str(a) for a in more]) == 0
    curve = json.loads(first.read_text())
    assert curve["label"] == "one"
    assert curve["points"][0]["found"] == 1.0
    assert len(curve["points"]) == 7
    assert plot.stat().st_size > 1000
    assert "2.5 deg 0.05 m" in capsys.readouterr().out
    second.write_text("{}")
    again = [*base, "--json", first, "--against", second]
    assert main([str(a) for a in again]) == 1
    assert "not what basin --json writes" in capsys.readouterr().err
