from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
import torch

from pixloc_ros.datasets import read_poses
from pixloc_ros.evaluation import PoseErrors, as_html, as_json, as_table
from pixloc_ros.evaluation.replay import Answer, ReplayReport
from pixloc_ros.geometry import Pose


def pose(metres=0.0, degrees=0.0):
    """cam_from_map of a camera whose centre is moved and which is turned about it."""
    turn = Pose.from_rotvec(
        torch.tensor([0.0, math.radians(degrees), 0.0]).double(), torch.zeros(3).double()
    )
    centre = Pose.from_quaternion([1, 0, 0, 0], [metres, 0, 0]).inverse()
    return turn @ centre


@pytest.fixture
def errors():
    truth = {f"{s}/{i}.jpg": pose() for s in ("one", "two") for i in range(2)}
    results = {
        "one/0.jpg": pose(0.03, 1.0),
        "one/1.jpg": pose(0.30, 3.0),
        "two/0.jpg": pose(0.01, 0.5),
    }
    return PoseErrors.of(truth, results)


def test_errors_medians_and_recalls(errors):
    assert errors.metres[:3] == pytest.approx([0.03, 0.30, 0.01])
    assert errors.degrees[:3] == pytest.approx([1.0, 3.0, 0.5])
    assert errors.missing == 1
    # a missing query is infinitely wrong, so the median lies between .03 and .30
    assert errors.medians() == pytest.approx((0.165, 2.0))
    assert errors.recall(0.05, 5) == 0.5
    assert errors.recall(0.5, 2) == 0.5
    assert errors.recall(0.5, 5) == 0.75


def test_agrees_with_the_scorer_of_the_packs(packs):
    baseline = packs / "kitti07_drive/baseline_sift_pnp_poses.txt"
    truth = packs / "kitti07_drive/gt_poses.txt"
    command = [sys.executable, str(packs / "evaluate.py"), str(baseline), str(truth), "0.02,0.1"]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ours = PoseErrors.of(read_poses(truth), read_poses(baseline))
    metres, degrees = ours.medians()
    assert f"median t {metres:.5f} R {degrees:.4f} deg" in theirs
    assert f"recall @ 0.02 , 0.1 deg: {100 * ours.recall(0.02, 0.1):.1f} %" in theirs


def test_reports(errors):
    table = as_table(errors)
    assert [line.split()[0] for line in table.splitlines()] == ["scene", "one", "two", "all"]
    assert "inf" not in table.splitlines()[1]
    content = json.loads(json.dumps(as_json(errors), allow_nan=False))
    assert content["all"]["missing"] == 1
    assert content["per_query"]["two/1.jpg"] == {"m": None, "deg": None}
    page = as_html(errors, "<b>run</b>")
    assert "&lt;b&gt;run" in page
    assert "one/1.jpg" in page


def test_replay_report_compares_at_the_very_stamp():
    base = pose().inverse()
    covariance = torch.eye(6, dtype=torch.float64) * 0.01**2
    off = Pose(base.rotation, base.translation + torch.tensor([0.0, 0.02, 0.0]).double())
    report = ReplayReport.of(
        5, [Answer(1.25, 0.3, off, covariance)], {1.0: pose(9.0).inverse(), 1.25: base}
    )
    assert report.metres == pytest.approx([0.02])
    assert report.sigmas == pytest.approx([2.0])
    assert report.latency_ms == pytest.approx([300.0])
    assert dict(report.lines())["fixes"] == "1"
    with pytest.raises(KeyError):
        ReplayReport.of(5, [Answer(2.0, 0.3, off, covariance)], {1.0: base})
    empty = ReplayReport.of(5, [], {1.0: base})
    assert dict(empty.lines()) == {"frames": "5", "fixes": "0"}
