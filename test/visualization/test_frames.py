"""Pictures of recorded answers, of features, and the command that draws them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from pixloc_ros.cli.main import main
from pixloc_ros.datasets import read_poses, write_poses
from pixloc_ros.features import PyramidLevel, extract_pyramid, read_image
from pixloc_ros.features.pyramid import LevelMaps
from pixloc_ros.localization import RunFile
from pixloc_ros.mapping import PixMap
from pixloc_ros.visualization.features import draw_components, draw_confidence
from pixloc_ros.visualization.frames import supporters
from pixloc_ros.visualization.overlay import draw_frame, residual_colours
from pixloc_ros.visualization.style import heat


def test_reprojections_are_where_the_pose_puts_them(recorded, room):
    with RunFile(recorded) as run, PixMap(room.map_file) as pixmap:
        frame = run[0]
        truth = room.sequence.frames[0]
        for step in (0, -1):
            points = frame.reprojections(step, 0)
            seen = np.isfinite(frame.trace.residual[step])
            world = torch.from_numpy(pixmap.model.points[frame.trace.points[seen]])
            wanted, _ = truth.camera.project(frame.trace.pose(step).transform(world))
            assert np.abs(points.pixels - wanted.numpy()).max() < 0.01
        assert frame.reprojections(0, 0).residual.mean() > points.residual.mean()
        best = supporters(frame)
        assert len(best) == 2
        names = [pixmap.model.names[r] for r in best]
        assert set(names) <= set(frame.facts["references"])
        # the fit is seen as colour
        drawn = draw_frame(frame)
        green = residual_colours(np.array([0.0]))[0]
        assert (np.abs(drawn.astype(int) - green).max(-1) < 10).sum() > 100
        assert draw_frame(run[2]).max() == 0


def test_confidence_lies_over_what_it_is_of():
    """A cell of the map covers the pixels that it looks at."""
    confidence = torch.full((60, 80), 0.1)
    confidence[26:35, 16:25] = 1.0
    image = np.zeros((240, 320, 3), np.uint8)
    maps = LevelMaps(torch.zeros(4, 60, 80), confidence, (0.25, 0.25), 0.0)
    drawn = draw_confidence(image, maps)
    weight = np.abs(drawn.astype(float) - drawn[0, 0]).sum(-1)
    y, x = (np.arange(n) for n in weight.shape)
    centre = ((weight.sum(0) @ x) / weight.sum(), (weight.sum(1) @ y) / weight.sum())
    # pixel centres at whole numbers: cell 20 covers pixels 80 to 83
    assert centre == pytest.approx((81.5, 121.5), abs=0.1)
    shifted = LevelMaps(torch.zeros(4, 60, 80), confidence, (0.25, 0.25), 1.0)
    moved = np.abs(draw_confidence(image, shifted).astype(float) - drawn[0, 0]).sum(-1)
    assert (moved.sum(0) @ x) / moved.sum() == pytest.approx(85.5, abs=0.1)


def test_components_separate_what_differs():
    features = torch.zeros(8, 20, 30)
    features[0, :, :15], features[1, :, 15:] = 1.0, 1.0
    maps = LevelMaps(features, torch.ones(20, 30), (1.0, 1.0), 0.0)
    image = np.zeros((20, 30, 3), np.uint8)
    drawn = draw_components(image, maps).astype(int)
    assert np.abs(drawn[:, :13] - drawn[:, 17:][:, ::-1]).max() > 200
    assert np.ptp(drawn[:, :13], axis=(0, 1)).max() == 0
    # the same picture every time
    assert np.array_equal(drawn, draw_components(image, maps))


def test_real_features_have_pictures(network, room):
    image = read_image(room.sequence.images / room.sequence.frames[0].name)
    (maps,) = extract_pyramid(network, image, [PyramidLevel(320, 1)]).levels
    for drawn in (draw_confidence(image, maps), draw_components(image, maps)):
        assert drawn.shape == image.shape
        assert drawn.std() > 10


def test_colours_are_ordered_in_brightness():
    """So that they are told apart in grey, and by all eyes."""
    grey = heat(np.linspace(0, 1, 32)).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) > 0).all()


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_command_draws_a_run(recorded, room, tmp_path, capsys, kind):
    truth = room.root / "gt_poses.txt"
    more = ["--images", room.root / "images", "--ground-truth", truth, "--format", kind]
    output = tmp_path / "pictures"
    with RunFile(recorded) as run:
        name = run[0].name
    if kind != "png":
        more += ["--query", name]
    assert main([str(a) for a in ["plot", recorded, "--output", output, *more]]) == 0
    assert ("dark.png: nothing was aligned" in capsys.readouterr().out) == (kind == "png")
    first, dark = name.replace("/", "_").rsplit(".", 1)[0], ["dark_features"]
    kinds = ("features", "reprojections", "convergence", "scene")
    for name in [f"{first}_{k}" for k in kinds] + ["starts"] + (dark if kind == "png" else []):
        file = output / f"{name}.{kind}"
        assert file.stat().st_size > 3000, name
        if kind == "png":
            assert cv2.imread(str(file)).std() > 5, name
    assert not (output / f"dark_scene.{kind}").exists()
    magic = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind]
    assert (output / f"{first}_scene.{kind}").read_bytes().startswith(magic)


def test_mistakes_of_the_command(recorded, tmp_path, capsys):
    base = ["plot", str(recorded), "--output", str(tmp_path / "p")]
    assert main([*base, "--query", "nobody.png"]) == 1
    assert "--query nobody.png: not in" in capsys.readouterr().err
    truth = tmp_path / "t.txt"
    truth.write_text("other.png 1 0 0 0 0 0 0\n")
    assert main([*base, "--ground-truth", str(truth)]) == 1
    assert "names no query that was aligned" in capsys.readouterr().err
    # before anything is drawn
    assert not (tmp_path / "p").exists()


def test_a_page_with_pictures_and_reasons(recorded, room, tmp_path, capsys):
    truth = read_poses(room.root / "gt_poses.txt")
    with RunFile(recorded) as run:
        found = {run[i].name: run[i].cam_from_map for i in range(2)}
    known = {name: truth[name] for name in found}
    known["dark.png"] = next(iter(truth.values()))
    known["elsewhere.png"] = next(iter(truth.values()))
    write_poses(tmp_path / "gt.txt", known)
    write_poses(tmp_path / "poses.txt", found)
    page, numbers = tmp_path / "page.html", tmp_path / "n.json"
    files = ["--ground-truth", tmp_path / "gt.txt", "--results", tmp_path / "poses.txt"]
    more = ["--html", page, "--json", numbers]
    assert main([str(a) for a in ["evaluate", *files, *more, "--run", recorded]]) == 0
    text = page.read_text()
    assert text.count("<figure>") == 4
    assert text.count("data:image/jpeg;base64,") == 3
    assert "not in the recorded run" in text
    assert "agree on" in text or "visible" in text  # why nothing was found in the dark
    assert text.count("<svg") == 1
    assert "http://" not in text.replace("http://www.w3.org", "")  # nothing from elsewhere
    assert "https://" not in text
    assert text.index("dark.png") < text.index(next(iter(found)))  # worst first
    assert json.loads(numbers.read_text())["all"]["missing"] == 2
    assert main([str(a) for a in ["evaluate", *files, "--run", recorded]]) == 1
    assert "--html FILE" in capsys.readouterr().err
