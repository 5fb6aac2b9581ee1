"""Maps from images and from bags, to the pose of a query."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from driving import worst
from PIL import ExifTags, Image

from pixloc_ros.cli.main import main
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera
from pixloc_ros.mapping import ModelError, PixMap, read_colmap
from pixloc_ros.mapping.frame import scale_upright, to_positions
from pixloc_ros.mapping.sfm import SfmWorkspace, find_images, prepare


def bag_command(root, output, *more):
    keyframes = ["--keyframe-m", "0.15", "--keyframe-deg", "6"]
    command = ["build_map", "--bag", root / "bag", "--pose-topic", "/ground_truth", *keyframes]
    return [str(a) for a in [*command, "--output", output, *more]]


def test_from_a_bag(drive, network, tmp_path, capsys):
    root, sequence = drive
    output = tmp_path / "room.pixmap.h5"
    assert main(bag_command(root, output)) == 0
    out = capsys.readouterr().out
    assert "keyframes of 30 images" in out
    assert "are found by the others" in out
    assert worst(output, sequence, network) < 0.03
    # what was done is used again: nothing is extracted, matched or triangulated
    before = (tmp_path / "room.work" / "database.db").stat().st_mtime_ns
    sparse = (tmp_path / "room.work" / "sparse" / "points3D.bin").stat().st_mtime_ns
    again = tmp_path / "again.pixmap.h5"
    work = ["--work", tmp_path / "room.work", "--no-check"]
    assert main(bag_command(root, again, *map(str, work))) == 0
    assert (tmp_path / "room.work" / "sparse" / "points3D.bin").stat().st_mtime_ns == sparse
    assert (tmp_path / "room.work" / "database.db").stat().st_mtime_ns == before
    with PixMap(output) as one, PixMap(again) as two:
        assert one.model.names == two.model.names
        assert np.array_equal(one.model.points, two.model.points)
    # other keyframes begin anew
    assert (
        main(
            [
                *bag_command(root, again, *map(str, work)),
                "--keyframe-deg",
                "15",
                "--keyframe-m",
                "0.4",
            ]
        )
        == 0
    )
    with PixMap(output) as one, PixMap(again) as two:
        assert len(two) < len(one)


def test_from_several_bags(drive, network, tmp_path, capsys):
    root, sequence = drive
    output, work = tmp_path / "room.pixmap.h5", tmp_path / "work"
    command = bag_command(root, output, "--work", str(work), "--session", "day", "night")
    second = command.index("--bag") + 2
    command.insert(second, str(root / "bag"))
    command[command.index("--keyframe-m") + 1] = "0.2"
    assert main(command) == 0
    out = capsys.readouterr().out
    with PixMap(output) as pixmap, PixMap(work / "1" / "map.pixmap.h5") as first:
        count = len(first)
        assert len(pixmap) == 2 * count
        assert [session.name for session in pixmap.sessions.every] == ["day", "night"]
        assert pixmap.sessions.of.tolist() == [0] * count + [1] * count
        assert pixmap.sessions.every[0].begun is not None
        # what was there stays as it was
        assert np.array_equal(pixmap.model.points[: first.point_count], first.model.points)
        assert np.array_equal(pixmap.quaternion[:count], first.quaternion)
        assert all(name.startswith("2-bag/") for name in pixmap.model.names[count:])
        apart, _ = pixmap.poses[:count].distance(pixmap.poses[count:])
        assert float(apart.max()) < 0.01
        assert pixmap.calibration is not None
    assert f"{count} of {count} keyframes are found in the map, {count} are placed" in out
    assert worst(output, sequence, network) < 0.03
    for more, message in (
        (["--session", "one"], "--session: 1 names, for 2 inputs"),
        (["--depth-topic", "/depth"], "--depth-topic is for one bag"),
    ):
        assert main([*command, *more]) == 1
        assert message in capsys.readouterr().err


def test_bundle_adjustment_keeps_the_frame(drive, network, tmp_path, capsys):
    root, sequence = drive
    output = tmp_path / "room.pixmap.h5"
    assert main(bag_command(root, output, "--adjust", "--no-check")) == 0
    assert "after bundle adjustment" in capsys.readouterr().out
    assert worst(output, sequence, network) < 0.03


def test_from_images_and_known_positions(drive, network, tmp_path, capsys):
    _, sequence = drive
    images, positions = tmp_path / "images", []
    images.mkdir()
    for frame in sequence.frames[::3]:
        name = frame.name.split("/")[-1]
        shutil.copy(sequence.images / frame.name, images / name)
        x, y, z = frame.truth.inverse().translation.tolist()
        positions.append(f"{name} {x} {y} {z}\n")
    (tmp_path / "positions.txt").write_text("".join(positions))
    # what cannot be used is named and left out
    (images / "broken.jpg").write_bytes(b"no image")
    shutil.copy(images / "0003.jpg", images / "twice.jpg")
    output = tmp_path / "room.pixmap.h5"
    command = ["build_map", "--images", images, "--output", output, "--no-check"]
    more = ["--positions", tmp_path / "positions.txt"]
    assert main([str(a) for a in [*command, *more]]) == 0
    out = capsys.readouterr().out
    assert "10 of 12 images registered" in out
    assert "broken.jpg: not a readable image" in out
    assert "twice.jpg is 0003.jpg" in out
    assert "in the frame of 10 known positions" in out
    assert worst(output, sequence, network) < 0.05


def test_from_what_nerfstudio_lists(drive, network, tmp_path, capsys):
    _, sequence = drive
    frames = []
    for frame in sequence.frames[::3]:
        opengl = frame.truth.inverse().matrix().numpy() @ np.diag([1, -1, -1, 1])
        frames.append({"file_path": frame.name, "transform_matrix": opengl.tolist()})
    fx, fy = sequence.frames[0].camera.focal.tolist()
    cx, cy = sequence.frames[0].camera.centre.tolist()
    listed = {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(listed))
    output = tmp_path / "room.pixmap.h5"
    command = ["build_map", "--images", sequence.images, "--output", output, "--no-check"]
    more = ["--transforms", tmp_path / "transforms.json"]
    assert main([str(a) for a in [*command, *more]]) == 0
    assert "10 of 10 images registered" in capsys.readouterr().out
    assert worst(output, sequence, network) < 0.03


def test_the_former_names_still_work(room, tmp_path):
    with pytest.warns(DeprecationWarning, match="SfmWorkspace"):
        from pixloc_ros.mapping.structure import Workshop, find_images
    names, _ = find_images(room.root / "images" / "db")
    workshop = Workshop(tmp_path / "work", room.root / "images" / "db", names)
    workshop.prepare({})
    assert workshop.database.is_file()
    with pytest.raises(InputError, match="0 images with a GPS position"):
        workshop.positions_by_gps()


def test_scale_and_up(room):
    model = pycolmap.Reconstruction(room.root / "sparse")
    before = read_colmap(model)
    flat = np.array([0.0, 0.0, 1.0])
    tilt = pycolmap.Rotation3d(np.array([np.sin(0.4), 0, 0, np.cos(0.4)]))
    model.transform(pycolmap.Sim3d(0.2, tilt, np.array([3.0, 4.0, 5.0])))
    scale_upright(model, 5.0)
    after = read_colmap(model)
    centres = [
        torch.stack([m.pose(i).inverse().translation for i in range(len(m.names))])
        for m in (before, after)
    ]
    assert torch.allclose(torch.pdist(centres[0]), torch.pdist(centres[1]), atol=1e-6)
    up = -np.mean([after.pose(i).rotation[1].numpy() for i in range(len(after.names))], 0)
    assert up @ flat / np.linalg.norm(up) > 0.999


def test_positions_that_cannot_be_used(room):
    def model():
        return pycolmap.Reconstruction(room.root / "sparse")

    names = [image.name for image in model().images.values()]
    with pytest.raises(ModelError, match="2 images with a known position"):
        to_positions(model(), dict.fromkeys(names[:2], np.zeros(3)))
    line = {name: np.array([float(i), 0, 0]) for i, name in enumerate(names)}
    with pytest.raises(ModelError, match="in a line"):
        to_positions(model(), line)
    random = np.random.default_rng(0)
    with pytest.raises(ModelError, match="do not agree"):
        to_positions(model(), {name: random.normal(0, 10, 3) for name in names})


def test_images_that_show_nothing_in_common(tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    random = np.random.default_rng(0)
    for i in range(4):
        cv2.imwrite(str(images / f"{i}.png"), random.integers(0, 255, (240, 320, 3), np.uint8))
    command = ["build_map", "--images", images, "--output", tmp_path / "a.pixmap.h5"]
    assert main([str(a) for a in command]) == 1
    assert "no two images overlap" in capsys.readouterr().err
    assert not (tmp_path / "a.pixmap.h5").exists()
    with pytest.raises(ModelError, match="no such folder"):
        find_images(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="0 images to map with"):
        find_images(tmp_path / "empty")


def test_killed_anywhere_it_goes_on(drive, tmp_path):
    root, _ = drive
    whole, cut = tmp_path / "whole.pixmap.h5", tmp_path / "cut.pixmap.h5"
    command = [sys.executable, "-m", "pixloc_ros"]
    subprocess.run([*command, *bag_command(root, whole, "--no-check")], check=True)
    for seconds in (3.0, 5.0):
        with subprocess.Popen([*command, *bag_command(root, cut, "--no-check")]) as process:
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
        if cut.exists():
            with PixMap(cut) as pixmap:  # only ever whole
                pixmap.verify()
    subprocess.run([*command, *bag_command(root, cut, "--no-check")], check=True)
    assert cut.read_bytes() == whole.read_bytes()
    assert not [name for name in os.listdir(tmp_path) if "partial" in name]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "give --images DIR"),
        (["--images", "x", "--bag", "y"], "give --images DIR"),
        (["--bag", "x", "--colmap", "y"], "--colmap goes with --images"),
        (["--bag", "x", "--scale", "2"], "--scale is for --images alone"),
        (["--images", "x", "--scale", "-1"], "--scale -1.0"),
        (["--images", "x", "--scale", "1", "--positions", "y"], "not both"),
        (["--bag", "/nowhere"], "no such recording"),
        (["--bag", "BAG", "--topic", "/none"], "topics of images: /image"),
        (["--bag", "BAG", "--pose-topic", "/none"], "/ground_truth"),
        (["--bag", "BAG", "--frame", "earth"], "not on earth"),
        (["--bag", "BAG", "--pose-topic", "/ground_truth", "--keyframe-m", "900"], "hardly moves"),
    ],
)
def test_mistakes_get_one_line(drive, tmp_path, capsys, more, message):
    root, _ = drive
    words = [str(root / "bag") if word == "BAG" else word for word in more]
    if "--keyframe-m" in words:
        words += ["--keyframe-deg", "900"]
    assert main(["build_map", *words, "--output", str(tmp_path / "a.pixmap.h5")]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "a.pixmap.h5").exists()


LIMITED = """
import resource, sys
from pixloc_ros.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("limit", "command"),
    [
        (500_000, ["edit_map", "MAP", "--output", "OUT"]),
        (100_000, ["build_map", "--colmap", "SPARSE", "--images", "IMAGES", "--output", "OUT"]),
        (2_000_000, ["build_map", "--colmap", "SPARSE", "--images", "IMAGES", "--output", "OUT"]),
    ],
)
def test_a_disk_that_takes_no_more(room, tmp_path, limit, command):
    """A file that cannot grow is as a full disk: one line, and what was there stays."""
    output = tmp_path / "a.pixmap.h5"
    output.write_bytes(b"what was there")
    words = {"MAP": room.map_file, "OUT": output}
    words |= {"SPARSE": room.root / "sparse", "IMAGES": room.root / "images"}
    arguments = [str(words.get(word, word)) for word in command]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "File too large" in last
    assert "Traceback" not in done.stderr
    assert output.read_bytes() == b"what was there"
    left = [path for path in tmp_path.rglob("*") if "partial" in path.name]
    assert not left


def test_too_little_room_is_said_before_anything_is_done(drive, tmp_path, monkeypatch, capsys):
    root, _ = drive
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    output = tmp_path / "a.pixmap.h5"
    assert main(bag_command(root, output, "--no-check")) == 1
    assert "1 MB are free on this disk, about 14 MB are needed" in capsys.readouterr().err


def test_images_of_another_size_than_the_camera(drive, tmp_path):
    _, sequence = drive
    images = tmp_path / "images"
    images.mkdir()
    for frame in sequence.frames[::6]:
        shutil.copy(sequence.images / frame.name, images)
    small = cv2.resize(cv2.imread(str(images / "0012.jpg")), (320, 240))
    cv2.imwrite(str(images / "0012.jpg"), small)
    camera = Camera.from_colmap("PINHOLE", 640, 480, [520, 520, 320, 240])
    names, left_out = find_images(images, camera)
    assert len(names) == 4
    assert "0012.jpg: 320 x 240 pixels, its camera has 640 x 480" in left_out.as_text()
    # without a camera each size has one of its own
    names, left_out = find_images(images)
    assert not left_out
    (tmp_path / "work").mkdir()
    workspace = SfmWorkspace(tmp_path / "work", images, names)
    prepare(workspace, {})
    with pycolmap.Database.open(str(workspace.database)) as database:
        sizes = sorted((c.width, c.height) for c in database.read_all_cameras())
    assert sizes == [(320, 240), (640, 480)]


def test_cameras_are_shared_by_what_files_tell_of_them(room, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    told = {"a.jpg": ("one", 4.0), "b.jpg": ("one", 4.0), "c.jpg": ("one", 8.0)}
    told |= {"d.jpg": ("two", 4.0), "e.jpg": None, "f.jpg": None}
    for number, (name, camera) in enumerate(told.items()):
        with Image.open(room.sequence.images / room.sequence.frames[number].name) as image:
            exif = image.getexif()
            if camera is not None:
                exif[ExifTags.Base.Model] = camera[0]
                exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLength] = camera[1]
            image.save(images / name, exif=exif)
    whole = (images / "f.jpg").read_bytes()
    broken = b"\xff\xe1\x00\x12Exif\x00\x00MM\x00*\xff\xff\xff\xff\x00\x09"
    (images / "g.jpg").write_bytes(whole[:2] + broken + whole[2:])
    workspace = SfmWorkspace(tmp_path / "work", images, [*told, "g.jpg"])
    shared = [names for names, _ in workspace.groups.values()]
    assert shared[:3] == [["a.jpg", "b.jpg"], ["c.jpg"], ["d.jpg"]]
    assert shared[3][:2] == ["e.jpg", "f.jpg"]
    assert sum(map(len, shared)) == 7
