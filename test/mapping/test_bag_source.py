"""A recording as the source of a map: which images become keyframes, with which camera."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.mapping.sources import FromBag, Work
from pixloc_ros.mapping.sources import bag as bag_source
from pixloc_ros.sensors import camera_of

sys.path.append(str(Path(__file__).parents[1] / "datasets"))
from bags import HEIGHT, WIDTH, image, info, picture, transforms, write

STAMPS = (1.0, 2.0, 3.0, 4.0)
LENS = [0.2, -0.06, 1e-3, -2e-3, 0.01, 0.3, -0.02, 0.01, 1e-3, -2e-4, 8e-4, 1e-4, 0.02, -0.01]


def recording(path, images=None, **changes):
    entries = [("/cam/camera_info", 1.0, info(1.0, **changes))]
    entries += [("/cam/image", t, m) for t, m in (images or [(t, image(t)) for t in STAMPS])]
    entries += [("/tf", t, transforms(("map", "camera", t, t, 1))) for t in STAMPS]
    return write(path, sorted(entries, key=lambda entry: entry[1]))


@pytest.fixture
def built(monkeypatch, tmp_path):
    """What is triangulated of a recording: names, cameras and poses; and what was said."""

    def build(bag, **settings):
        given, said = {}, []

        def triangulate(work, images, cameras, poses, known, adjusted):
            given.update(images=images, cameras=cameras, poses=poses)

        monkeypatch.setattr(bag_source, "triangulate", triangulate)
        work = Work(tmp_path / "work", None, said.append)
        FromBag(bag, **{"keyframe_m": 0.5, "frame": "/map", **settings}).build(work)
        return given, said

    return build


def test_keyframes(built, tmp_path):
    given, said = built(recording(tmp_path / "a"))
    assert list(given["poses"]) == ["1.000000.jpg", "2.000000.jpg", "3.000000.jpg", "4.000000.jpg"]
    assert given["poses"]["3.000000.jpg"].inverse().translation[0] == 3
    assert "4 keyframes of 4 images" in said


def test_images_of_another_size_than_their_camera(built, tmp_path):
    odd = [(t, image(t)) for t in STAMPS[:3]] + [(4.0, image(4.0, picture()[:40]))]
    _, said = built(recording(tmp_path / "one", odd))
    assert (
        "1 of another size than the camera (the first: /cam/image at 4.000 s: 64 x 40" in said[0]
    )
    with pytest.raises(InputError, match="64 x 48 pixels, its camera has 128 x 96"):
        built(recording(tmp_path / "all", width=128, height=96))


def test_images_without_their_frame_cost_only_themselves(built, tmp_path):
    images = [(t, image(t, frame="" if t == 1.0 else "camera")) for t in STAMPS]
    given, said = built(recording(tmp_path / "one", images))
    assert len(given["poses"]) == 3
    assert "1 of a frame without a pose" in said[0]
    assert "have no frame_id: --camera-frame" in said[0]
    nowhere = [(t, image(t, frame="")) for t in STAMPS]
    with pytest.raises(InputError, match="no frame_id: --camera-frame"):
        built(recording(tmp_path / "all", nowhere))
    given, _ = built(recording(tmp_path / "told", nowhere), camera_frame="/camera")
    assert len(given["poses"]) == 4


def test_two_images_of_one_stamp_are_one_keyframe(built, tmp_path):
    images = [*((t, image(t)) for t in STAMPS), (2.0, image(2.0, picture(5)))]
    given, _ = built(recording(tmp_path / "twice", images))
    assert len(given["poses"]) == 4


def test_a_recording_that_was_made_anew_is_read_anew(built, tmp_path):
    path = tmp_path / "again"
    given, _ = built(recording(path))
    first = {p.name: p.read_bytes() for p in given["images"].iterdir()}
    built(path)
    assert first == {p.name: p.read_bytes() for p in given["images"].iterdir()}
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    recording(path, [(t, image(t, picture(9))) for t in STAMPS])
    built(path)
    assert first != {p.name: p.read_bytes() for p in given["images"].iterdir()}


def test_a_camera_that_colmap_has_not_is_undistorted(built, tmp_path):
    """Thin prism and tilt: keyframes become those of a camera without distortion."""
    message = info(1.0, model="rational_polynomial", d=LENS)
    camera = camera_of(message)
    assert camera.colmap() is None
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    smooth = np.stack([3 * x, 4 * y, x + y], -1).astype(np.uint8)
    images = [(t, image(t, smooth)) for t in STAMPS]
    given, _ = built(recording(tmp_path / "lens", images, model="rational_polynomial", d=LENS))
    plain = given["cameras"]["1.000000.jpg"]
    assert plain.colmap()[0] == "PINHOLE"
    kept = cv2.imread(str(given["images"] / "1.000000.jpg"))[..., ::-1].astype(float)
    pixels = torch.tensor([[20.5, 15.5], [32.5, 24.5], [45.5, 30.5]], dtype=torch.float64)
    source, _ = camera.project(plain.unproject(pixels)[0])
    for (u, v), (su, sv) in zip(pixels.tolist(), source.tolist(), strict=True):
        expected = [3 * (su - 0.5), 4 * (sv - 0.5), su + sv - 1]
        assert kept[int(v), int(u)] == pytest.approx(expected, abs=5)


def test_a_camera_that_is_given_counts(built, tmp_path):
    camera = Camera.from_colmap("PINHOLE", WIDTH, HEIGHT, [70, 70, 32, 24])
    given, _ = built(recording(tmp_path / "given"), camera=camera)
    assert given["cameras"]["1.000000.jpg"].focal[0] == 70


def test_a_second_recording_is_brought_into_the_map_of_the_first(built, tmp_path):
    """Every second keyframe is found, 10 m to the side."""
    bag, looked = recording(tmp_path / "a"), []
    aside = Pose(torch.eye(3).double(), torch.tensor([0.0, -10.0, 0.0]).double())

    def locate(image, camera):
        looked.append(image.shape)
        number = len(looked)
        centre = torch.tensor([number, 0.0, 1.0]).double()
        pose = Pose(torch.eye(3).double(), -centre) @ aside
        return (pose if number % 2 else None), "not there"

    given, said = built(bag, onto=locate, under="2-night")
    assert list(given["poses"]) == [f"2-night/{stamp:.6f}.jpg" for stamp in STAMPS]
    assert all((given["images"] / name).is_file() for name in given["poses"])
    for stamp, pose in zip(STAMPS, given["poses"].values(), strict=True):
        centre = pose.inverse().translation.tolist()
        assert centre == pytest.approx([stamp, 10, 1], abs=1e-6)
    assert f"{bag}: 2 of 4 keyframes are found in the map, 4 are placed in it" in said
    with pytest.raises(InputError, match="is it the same place"):
        built(bag, onto=lambda image, camera: (None, "no"), under="2-night")
