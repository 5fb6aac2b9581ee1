"""Photographs, what a camera does to an image, and light in ray-cast scenes."""

from __future__ import annotations

import json
import subprocess

import cv2
import numpy as np
import pytest
import torch

from pixloc_ros.datasets import photographs as module
from pixloc_ros.datasets.photographs import (
    PhotographError,
    fetch_photographs,
    is_photograph,
    read_photographs,
    sample_photographs,
)
from pixloc_ros.datasets.photometry import jpeg, photograph
from pixloc_ros.datasets.raycast import Boxes, Textures, cast, in_shadow


@pytest.fixture(scope="module")
def picture():
    return np.ascontiguousarray(sample_photographs()[0][0][:384, :384])


@pytest.fixture
def image(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def test_jpeg_loses_what_jpeg_loses(picture, image):
    """Against a real encoder of the same quality: losses of the same size and kind."""
    for quality in (30, 60, 90):
        mine = jpeg(image, torch.tensor([float(quality)]))
        _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        theirs = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255
        real = torch.from_numpy(theirs.copy()).permute(2, 0, 1)[None]
        lost, truly = ((a.mean(1) - image.mean(1)).square().mean() for a in (mine, real))
        assert 0.5 < float(lost / truly) < 2.0
    better, worse = (jpeg(image, torch.tensor([q])) for q in (95.0, 20.0))
    assert (better - image).abs().mean() < (worse - image).abs().mean()


def test_photographs_differ_between_views_and_repeat_with_the_seed(image):
    views = image.repeat(3, 1, 1, 1)
    first, second = (photograph(views, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, photograph(views, np.random.default_rng(5)))
    assert ((first >= 0) & (first <= 1)).all()
    for view in first:  # still the same picture
        assert np.corrcoef(view.mean(0).flatten(), image[0].mean(0).flatten())[0, 1] > 0.6


def boxes(*entries):
    """Boxes (centre, half) in one scene."""
    count = len(entries)
    return Boxes(
        torch.tensor([[c for c, _ in entries]]),
        torch.tensor([[h for _, h in entries]]),
        torch.eye(3).expand(1, count, 3, 3),
        torch.zeros(1, count, dtype=torch.bool),
        torch.zeros(1, count, 6, dtype=torch.long),
        torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, count, 6, 4),
        torch.ones(1, count, 6, 3),
        torch.zeros(1, count, 6, 3),
    )


def test_a_box_between_a_point_and_the_lamp_throws_a_shadow():
    scene = boxes(([0.0, 0.0, -1.0], [5.0, 5.0, 1.0]), ([1.0, 0.0, 1.0], [0.2, 0.2, 0.2]))
    points = torch.tensor([[[[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]]])
    lamp = torch.tensor([[[1.0, 0.0, 3.0]]])
    assert in_shadow(scene, points, lamp)[0, 0].tolist() == [True, False]


def test_a_box_that_a_view_does_not_see_is_not_there():
    scene = boxes(([3.0, 0.0, 0.0], [0.5, 0.5, 0.5]), ([6.0, 0.0, 0.0], [0.5, 2.0, 2.0]))
    origin, ahead = torch.zeros(1, 2, 3), torch.tensor([1.0, 0, 0]).expand(1, 2, 1, 3)
    visible = torch.tensor([[[True, True], [False, True]]])
    hits = cast(scene, origin, ahead, visible)
    assert hits.distance[0, :, 0].tolist() == [2.5, 5.5]
    assert torch.allclose(hits.normal[0, :, 0], torch.tensor([-1.0, 0.0, 0.0]))
    nothing = cast(scene, origin, -ahead)
    assert torch.isinf(nothing.distance).all()
    assert torch.isfinite(nothing.point).all()


def test_textures_repeat_mirrored_and_blur_with_distance():
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None] * 4, 64, 0).repeat(3, 2)
    textures = Textures([np.ascontiguousarray(ramp)])
    at = lambda u, level=0.0: float(  # noqa: E731
        textures.sample(torch.tensor([0]), torch.tensor([[u, 0.5]]), torch.tensor([level]))[0, 0]
    )
    assert at(0.25) == pytest.approx(at(1.75), abs=1e-3)
    assert at(0.25) == pytest.approx(at(-0.25), abs=1e-3)
    assert at(0.25) < at(0.75)
    assert abs(at(0.05, 5.0) - at(0.95, 5.0)) < abs(at(0.05) - at(0.95))


def test_drawings_and_empty_tiles_are_no_photographs(picture):
    assert is_photograph(picture)
    assert not is_photograph(np.full_like(picture, 255))
    drawing = np.full_like(picture, 255)
    cv2.circle(drawing, (190, 190), 80, (20, 20, 200), 3)
    assert not is_photograph(drawing)
    assert not is_photograph(cv2.GaussianBlur(picture, (0, 0), 40))


@pytest.fixture
def debian(monkeypatch, tmp_path, picture):
    """apt-get and dpkg-deb that serve one package from a folder."""

    def run(command, cwd, **_):
        out = ""
        if command[:2] == ["apt-get", "download"]:
            if command[2] != "pictures":
                return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate it\n")
            (cwd / "pictures.deb").write_bytes(b"")
        elif command[1] == "-f":
            out = "1.2-3\n"
        else:
            for folder in ("usr/share/pictures", "usr/share/doc/pictures"):
                (cwd / folder).mkdir(parents=True)
            cv2.imwrite(str(cwd / "usr/share/pictures/a.png"), picture[..., ::-1])
            (cwd / "usr/share/pictures/broken.png").write_bytes(b"no image")
            (cwd / "usr/share/doc/pictures/copyright").write_text("License: CC0\n")
        return subprocess.CompletedProcess(command, 0, out, "")

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module.shutil, "which", lambda name: name)
    monkeypatch.setattr(module, "PACKAGES", {"pictures": ("usr/share/pictures",)})
    return tmp_path / "out"


def test_tiles_are_recorded_with_package_version_and_licence(debian):
    assert fetch_photographs(debian) >= 1
    manifest = json.loads((debian / "manifest.json").read_text())
    package = manifest["packages"][0]
    assert (package["package"], package["version"]) == ("pictures", "1.2-3")
    assert "CC0" in (debian / package["licences"]).read_text()
    tile = manifest["tiles"][0]
    assert tile["file"] == "usr/share/pictures/a.png"
    assert len(tile["sha256"]) == 64
    images = read_photographs(debian)
    assert len(images) == len(manifest["tiles"])
    assert images[0].shape == (module.TILE, module.TILE, 3)
    with pytest.raises(PhotographError, match="not empty"):
        fetch_photographs(debian)


def test_what_cannot_be_fetched_or_read_is_one_line(debian, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "PACKAGES", {"nothing": ()})
    with pytest.raises(PhotographError, match="Unable to locate"):
        fetch_photographs(debian)
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(PhotographError, match="apt-get is needed"):
        fetch_photographs(tmp_path / "other")
    with pytest.raises(PhotographError, match="no photographs; fetch them"):
        read_photographs(tmp_path / "none")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_bytes(b"no image")
    with pytest.raises(PhotographError, match="not a readable image"):
        read_photographs(tmp_path / "bad")
