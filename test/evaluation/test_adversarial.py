"""Queries made wrong: what each attack does, and how answers are counted."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from pixloc_ros.evaluation.adversarial import ATTACKS, FAR, Attacker, moved, run
from pixloc_ros.features import read_image
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import LocalizationResult, Status

HERE = Pose.identity(dtype=torch.float64)
CAMERA = Camera.from_colmap("PINHOLE", 160, 120, [100, 110, 80, 60])
NEAR = (0.1, 5.0)


def attack(name):
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    shown, camera = ATTACKS[name].change(image.copy(), CAMERA, np.random.default_rng(1))
    assert shown.shape == image.shape
    assert shown.dtype == np.uint8
    return image, shown, camera


def test_a_wrong_camera_leaves_the_image():
    image, shown, camera = attack("focal x1.25")
    assert (shown == image).all()
    assert camera.focal.tolist() == [125.0, 137.5]
    image, shown, camera = attack("centre 10 % right")
    assert (shown == image).all()
    assert camera.centre.tolist() == pytest.approx([96.0, 60.0])
    assert attack("centre 10 % down")[2].centre.tolist() == pytest.approx([80.0, 72.0])


def test_images_in_pieces_show_no_place():
    image, shown, _ = attack("mirrored")
    assert (shown == image[:, ::-1]).all()
    for name in ("4x4 tiles", "3x3 tiles"):
        image, shown, _ = attack(name)
        assert (shown != image).mean() > 0.5
    image, shown, _ = attack("4x4 tiles")
    assert (np.sort(shown, axis=None) == np.sort(image, axis=None)).all()
    assert not any(ATTACKS[name].shows for name in ("mirrored", "4x4 tiles", "3x3 tiles"))


def test_as_much_is_covered_as_is_said():
    for name, share in (("covered 50 %", 0.5), ("covered 75 %", 0.75)):
        image, shown, _ = attack(name)
        assert share <= (shown != image).any(-1).mean() < share + 0.15


def test_blur_keeps_the_light():
    image, shown, _ = attack("blurred 6 %")
    assert abs(shown.mean() - image.mean()) < 2
    assert shown.std() < 0.6 * image.std()


def test_a_bad_prior_is_far():
    metres, radians = moved(HERE, NEAR, np.random.default_rng(0)).distance(HERE)
    assert float(metres) == pytest.approx(FAR * NEAR[0])
    assert float(torch.rad2deg(radians)) == pytest.approx(FAR * NEAR[1])


class Believing:
    """Says of everything that it was taken from HERE."""

    def localize(self, image, camera, prior=None, search=True):
        return LocalizationResult(Status.SUCCESS, "", HERE)


def test_what_is_believed_elsewhere_is_wrong():
    attacker = Attacker(Believing(), NEAR)
    image = np.zeros((120, 160, 3), np.uint8)
    attacker.foreign(image, CAMERA)
    attacker.query(image, CAMERA, HERE, 0)
    away = HERE.perturb(torch.tensor([1.0, 0, 0, 0, 0, 0]).double())
    attacker.query(image, CAMERA, away, 1)
    rows = {row.attack: (row.images, row.right, row.wrong) for row in attacker.rows()}
    assert rows["another place"] == (1, 0, 1)
    assert rows["as it is"] == rows["focal x0.7"] == rows["bad prior alone"] == (2, 1, 1)
    assert rows["mirrored"] == (2, 0, 2)
    assert set(rows) == {*ATTACKS, "another place", "from a good prior", "bad prior alone"}


@pytest.fixture
def queries(room, tmp_path):
    frame = room.sequence.frames[2]
    image = read_image(room.sequence.images / frame.name)
    model, params = frame.camera.colmap()
    width, height = (int(v) for v in frame.camera.size.tolist())
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), image[..., ::-1])
    (tmp_path / "queries_with_intrinsics.txt").write_text(
        f"a.png {model} {width} {height} {' '.join(map(str, params))}\n"
    )
    pose = [*frame.truth.quaternion().tolist(), *frame.truth.translation.tolist()]
    (tmp_path / "gt_poses.txt").write_text(f"a.png {' '.join(map(repr, pose))}\n")
    return tmp_path


def test_the_table(room, queries, capsys):
    report = queries / "table.json"
    arguments = ["--map", str(room.map_file), "--queries", str(queries), "--json", str(report)]
    assert run([*arguments, "turns=false"]) == 0
    rows = {row["attack"]: row for row in json.loads(report.read_text())}
    assert rows["as it is"]["right"] == rows["from a good prior"]["right"] == 1
    assert rows["4x4 tiles"]["wrong"] == rows["bad prior alone"]["wrong"] == 0
    assert "images, " in capsys.readouterr().out


def test_what_is_wrong_is_said_in_a_line(room, queries, capsys):
    (queries / "gt_poses.txt").write_text("b.png 1 0 0 0 0 0 0\n")
    assert run(["--map", str(room.map_file), "--queries", str(queries)]) == 1
    assert "lacks a.png" in capsys.readouterr().err
