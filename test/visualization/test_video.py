"""Videos that OpenCV reads."""

from __future__ import annotations

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pixloc_ros.cli.main import main
from pixloc_ros.datasets.bag import write_bag
from pixloc_ros.datasets.rendered_room import mount
from pixloc_ros.errors import InputError
from pixloc_ros.visualization.video import VideoWriter, encode


def frames(path):
    film = cv2.VideoCapture(str(path))
    read = []
    while True:
        more, image = film.read()
        if not more:
            return read
        read.append(image)


def test_frames_come_back(tmp_path):
    images = [np.full((48, 64, 3), value, np.uint8) for value in (10, 120, 240)]
    images.append(np.full((24, 32, 3), 60, np.uint8))  # gets the size of the others
    with VideoWriter(tmp_path / "a.mp4", 5) as writer:
        for image in images:
            writer.add(image)
        assert not (tmp_path / "a.mp4").exists()  # until it is whole
    read = frames(tmp_path / "a.mp4")
    assert [image.shape for image in read] == [(48, 64, 3)] * 4
    assert [image.mean() for image in read] == pytest.approx([10, 120, 240, 60], abs=6)
    assert len(encode(images, 5)) > 500
    odd = tmp_path / "odd.mp4"
    with VideoWriter(odd, 5) as writer:
        writer.add(np.zeros((49, 65, 3), np.uint8))
    assert frames(odd)[0].shape == (48, 64, 3)


def test_nothing_half_written_is_left(tmp_path):
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "a.mp4", 5) as writer:  # noqa: PT012
        writer.add(np.zeros((48, 64, 3), np.uint8))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"ends in \.mp4"):
        VideoWriter(tmp_path / "a.avi", 5)
    writer = VideoWriter(tmp_path / "none" / "a.mp4", 5)
    with pytest.raises(InputError, match="cannot write a video"):
        writer.add(np.zeros((48, 64, 3), np.uint8))


def test_of_a_run(recorded, tmp_path, capsys):
    assert main(["video", str(recorded), "--output", str(tmp_path / "v")]) == 0
    assert "confidence.mp4: 3 frames" in capsys.readouterr().out
    for name in ("confidence", "reprojections"):
        read = frames(tmp_path / "v" / f"{name}.mp4")
        assert len(read) == 3
        assert read[0].shape == (480, 640, 3)
        assert read[0].std() > 10


def test_of_a_folder_and_of_a_bag(room, tmp_path):
    count, images = 4, tmp_path / "images"
    sequence = replace(room.sequence, frames=room.sequence.frames[:count])
    for frame in sequence.frames:
        (images / frame.name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(room.sequence.images / frame.name, images / frame.name)
    camera = "PINHOLE 640 480 520 520 320 240"
    assert main([str(a) for a in ["video", images, "--output", tmp_path / "f"]]) == 0
    assert len(frames(tmp_path / "f" / "confidence.mp4")) == count
    assert not (tmp_path / "f" / "reprojections.mp4").exists()
    write_bag(sequence, tmp_path / "bag", mount())
    for name, source, more in (
        ("b", tmp_path / "bag", []),
        ("c", images / "query", ["--camera", camera]),
    ):
        command = ["video", source, "--output", tmp_path / name, "--map", room.map_file, *more]
        assert main([str(a) for a in command]) == 0
        for kind in ("confidence", "reprojections"):
            assert len(frames(tmp_path / name / f"{kind}.mp4")) == count


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["/nowhere"], "no such folder of images, bag or run"),
        (["EMPTY"], "no images in it"),
        (["IMAGES", "--map", "MAP"], "--map needs --camera"),
        (["IMAGES", "--map", "MAP", "--camera", "PINHOLE 640"], "MODEL width height"),
        (["IMAGES", "--fps", "0"], "--fps 0.0"),
        (["IMAGES", "--level", "9"], "--level 9"),
        (["RUN", "--map", "MAP"], "localized already"),
    ],
)
def test_mistakes_get_one_line(room, recorded, tmp_path, capsys, more, message):
    (tmp_path / "empty").mkdir()
    known = {
        "EMPTY": tmp_path / "empty",
        "IMAGES": room.sequence.images,
        "MAP": room.map_file,
        "RUN": recorded,
    }
    words = [str(known.get(word, word)) for word in more]
    assert main(["video", *words, "--output", str(tmp_path / "v")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
