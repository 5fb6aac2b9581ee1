"""Graded corruptions: what is counted, and beside whom."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.robustness import by_severity, rows, run
from pixloc_ros.features import read_image
from pixloc_ros.geometry import Pose
from pixloc_ros.localization import LocalizationResult, Status

HERE = Pose.identity(dtype=torch.float64)
AWAY = HERE.perturb(torch.tensor([1.0, 0, 0, 0, 0, 0]).double())


def answer(status, pose):
    return LocalizationResult(status, "", pose)


def test_each_answer_counts_once():
    answers = {
        "dark_1/a.jpg": answer(Status.SUCCESS, HERE),
        "dark_1/b.jpg": answer(Status.SUCCESS, AWAY),
        "dark_1/c.jpg": answer(Status.REJECTED, HERE),
        "dark_1/d.jpg": answer(Status.REJECTED, AWAY),
        "roll_5/a.jpg": answer(Status.SUCCESS, HERE),
    }
    truth = dict.fromkeys(answers, HERE)
    beside = {"dark_1/a.jpg": AWAY, "dark_1/d.jpg": HERE}
    dark, roll = rows(answers, truth, (0.1, 5.0), beside)
    assert (dark.kind, dark.severity, dark.images) == ("dark", 1, 4)
    assert (dark.right, dark.wrong, dark.withheld, dark.beside) == (1, 1, 1, 1)
    assert (roll.right, roll.beside) == (1, 0)
    assert next(rows(answers, truth, (0.1, 5.0))).beside is None


def test_a_folder_tells_kind_and_severity():
    assert by_severity(["x/night_2/a.jpg", "night_10/a.jpg"]) == {
        ("night", 2): ["x/night_2/a.jpg"],
        ("night", 10): ["night_10/a.jpg"],
    }
    for wrong in ("a.jpg", "night/a.jpg", "_1/a.jpg", "night_x/a.jpg"):
        with pytest.raises(InputError, match="expected KIND_SEVERITY/NAME"):
            by_severity([wrong])


@pytest.fixture
def degraded(room, tmp_path):
    frame = room.sequence.frames[2]
    image = read_image(room.sequence.images / frame.name)
    model, params = frame.camera.colmap()
    numbers = " ".join(map(str, params))
    width, height = (int(v) for v in frame.camera.size.tolist())
    queries, truth = "", ""
    pose = [*frame.truth.quaternion().tolist(), *frame.truth.translation.tolist()]
    for name, shown in (("clean_0/a.png", image), ("dark_5/a.png", np.zeros_like(image))):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), shown[..., ::-1])
        queries += f"{name} {model} {width} {height} {numbers}\n"
        truth += f"{name} {' '.join(map(repr, pose))}\n"
    (tmp_path / "queries_with_intrinsics.txt").write_text(queries)
    (tmp_path / "gt_poses.txt").write_text(truth)
    return tmp_path


def test_the_table(room, degraded, capsys):
    report = degraded / "table.json"
    arguments = ["--map", str(room.map_file), "--queries", str(degraded), "--json", str(report)]
    assert run([*arguments, "--beside", str(degraded / "gt_poses.txt")]) == 0
    clean, dark = json.loads(report.read_text())
    assert (clean["kind"], clean["right"], clean["wrong"]) == ("clean", 1, 0)
    assert (dark["kind"], dark["right"], dark["wrong"], dark["beside"]) == ("dark", 0, 0, 1)
    assert "2 images, median" in capsys.readouterr().out


def test_what_is_wrong_is_said_in_a_line(room, degraded, capsys):
    (degraded / "gt_poses.txt").write_text("clean_0/a.png 1 0 0 0 0 0 0\n")
    assert run(["--map", str(room.map_file), "--queries", str(degraded)]) == 1
    assert "lacks dark_5/a.png" in capsys.readouterr().err
