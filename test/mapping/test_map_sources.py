"""Maps from poses, other programs' features and depth, in the frame of GPS or a marker."""

from __future__ import annotations

import array
import json
import shutil

import cv2
import h5py
import numpy as np
import pycolmap
import pytest
import torch
from driving import worst
from PIL import Image as Picture
from PIL import TiffImagePlugin
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from pixloc_ros.cli.main import main
from pixloc_ros.datasets import write_poses
from pixloc_ros.datasets.rendered_room import make_room
from pixloc_ros.errors import InputError
from pixloc_ros.features import read_image
from pixloc_ros.geometry import Pose
from pixloc_ros.mapping import PixMap, read_colmap
from pixloc_ros.mapping.depth_points import add_depth_points
from pixloc_ros.mapping.frame import LEAST
from pixloc_ros.mapping.health import Judgement, MapHealth, health_path
from pixloc_ros.mapping.sfm import find_images
from pixloc_ros.mapping.sources import Source, Work
from pixloc_ros.mapping.sources.bag import extract_depth
from pixloc_ros.mapping.sources.depth import DepthFolder
from pixloc_ros.mapping.sources.source import claim
from pixloc_ros.mapping.sparse_model import subset


def build(capsys, *arguments):
    code = main(["build_map", "--no-check", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out + said.err


def camera_words(sequence):
    camera = sequence.frames[0].camera
    numbers = [*camera.focal.tolist(), *camera.centre.tolist()]
    return "PINHOLE 640 480 " + " ".join(map(str, numbers))


@pytest.fixture
def posed(drive, tmp_path):
    """Every other image of the drive, and the list of their poses."""
    _, sequence = drive
    images, poses = tmp_path / "images", {}
    images.mkdir()
    for frame in sequence.frames[::3]:
        name = frame.name.split("/")[-1]
        shutil.copy(sequence.images / frame.name, images / name)
        poses[name] = frame.truth
    listed = tmp_path / "poses.txt"
    write_poses(listed, poses)
    return images, listed, poses


def test_from_poses_with_features_of_another_program(drive, posed, network, tmp_path, capsys):
    """As hloc writes them: keypoints of each image, partners of each pair."""
    _, sequence = drive
    images, listed, poses = posed
    sift, described = cv2.SIFT_create(1500), {}
    features, matches = tmp_path / "features.h5", tmp_path / "matches.h5"
    with h5py.File(features, "w") as file:
        for name in poses:
            keypoints, descriptors = sift.detectAndCompute(cv2.imread(str(images / name), 0), None)
            described[name] = descriptors
            file[f"{name}/keypoints"] = np.array([k.pt for k in keypoints], np.float32)
    matcher, names = cv2.BFMatcher(crossCheck=True), list(poses)
    with h5py.File(matches, "w") as file:
        for i, one in enumerate(names):
            for other in names[i + 1 : i + 4]:
                partner = np.full(len(described[one]), -1)
                for match in matcher.match(described[one], described[other]):
                    partner[match.queryIdx] = match.trainIdx
                file[f"{other}/{one}/matches0" if i % 2 else f"{one}/{other}/matches0"] = (
                    _turned(partner, len(described[other])) if i % 2 else partner
                )
    output = tmp_path / "room.pixmap.h5"
    command = ["--images", images, "--poses", listed, "--camera", camera_words(sequence)]
    command += ["--output", output, "--features", features, "--matches", matches]
    code, said = build(capsys, *command)
    assert code == 0, said
    assert "10 of 10 images registered" in said
    assert worst(output, sequence, network) < 0.03
    with PixMap(output) as pixmap:
        assert pixmap.provenance[0]["source"] == "poses"
    # what is missing, or of other features, is named
    with h5py.File(features, "r+") as file:
        del file[names[3]]
    assert "no keypoints of " + names[3] in build(capsys, *command)[1]
    with h5py.File(features, "r+") as file:
        file[f"{names[3]}/keypoints"] = np.zeros((5, 2), np.float32)
    assert "matches of other keypoints" in build(capsys, *command)[1]


def _turned(partner, count):
    other = np.full(count, -1)
    found = np.flatnonzero(partner >= 0)
    other[partner[found]] = found
    return other


def test_a_map_is_extended_by_images_that_are_found_in_it(
    room, drive, posed, network, tmp_path, capsys
):
    _, sequence = drive
    images, _, poses = posed
    random = np.random.default_rng(0)
    cv2.imwrite(str(images / "noise.png"), random.integers(0, 255, (480, 640, 3), np.uint8))
    output = tmp_path / "more.pixmap.h5"
    command = ["--extend", room.map_file, "--images", images, "--output", output]
    command += ["--camera", camera_words(sequence)]
    code, said = build(capsys, *command)
    assert code == 0, said
    assert "not found in the map" in said
    assert f"{output}: {room.map_file} and {len(poses)} references" in said
    assert ".part" not in said
    with PixMap(room.map_file) as old, PixMap(output) as new:
        new.verify()
        assert len(new) == len(old) + len(poses)
        for name, truth in poses.items():
            assert float(new.pose(new.names.find(name)).distance(truth)[0]) < 0.03
        assert [part["references"] for part in new.provenance[0]["maps"]] == [16, 10]
    assert worst(output, sequence, network) < 0.03
    again = build(
        capsys,
        *[output if a == room.map_file else a for a in command[:-3]],
        tmp_path / "b.pixmap.h5",
        *command[-2:],
    )
    assert "is in" in again[1]
    assert "already" in again[1]
    assert not list(tmp_path.glob(".*part*"))


def test_a_map_is_refreshed_by_images_that_were_kept(room, drive, posed, tmp_path, capsys):
    _, sequence = drive
    images, _, poses = posed
    map_file, output = tmp_path / "room.pixmap.h5", tmp_path / "new.pixmap.h5"
    shutil.copy(room.map_file, map_file)
    lines = [f"{name} {camera_words(sequence)}\n" for name in poses]
    (images / "queries_with_intrinsics.txt").write_text("".join(lines))
    off = torch.tensor([0.02, 0.0, 0.0, 0.0, 0.01, 0.0], dtype=torch.float64)
    write_poses(images / "poses.txt", {name: pose.perturb(off) for name, pose in poses.items()})
    with PixMap(map_file) as old, MapHealth(old, health_path(map_file), "robot") as health:
        gone = old.reference(0).points.numpy()
        none = np.zeros(len(gone), bool)
        said = Judgement(gone, none, np.array([0]), np.zeros(len(gone), int), none)
        for k in range(8):
            health.add(said, 100.0 * k)
    command = ["--refresh", map_file, "--images", images, "--output"]
    code, told = build(capsys, *command, output)
    assert code == 0, told
    assert f"{len(gone)} points and 1 references of before are left out" in told
    with PixMap(map_file) as old, PixMap(output) as new:
        new.verify()
        assert old.names[0] not in new.names
        stays = [old.names.find(name) for name in new.names if name in old.names]
        assert len(stays) > 10
        # what stays of the map is where it was, to the bit
        for number in stays:
            there = new.names.find(old.names[number])
            assert torch.equal(new.pose(there).matrix(), old.pose(number).matrix())
            before, after = old.reference(number), new.reference(there)
            kept = ~np.isin(before.points.numpy(), gone)
            assert torch.equal(after.xyz, before.xyz[torch.from_numpy(kept)])
        added = [name for name in poses if name in new.names]
        for name in added:
            assert float(new.pose(new.names.find(name)).distance(poses[name])[0]) < 0.01
        assert len(new) == len(stays) + len(added)
        # some see little but what is gone
        assert len(added) >= LEAST
    small = tmp_path / "small.pixmap.h5"
    code, told = build(capsys, *command, small, "--budget-mb", "1.5")
    assert code == 0, told
    assert 0.75 * 1.5 < small.stat().st_size / 2**20 <= 1.5
    assert small.stat().st_size < 0.7 * output.stat().st_size
    code, told = build(capsys, *command, tmp_path / "b.pixmap.h5", "--budget-mb", "0.01")
    assert code == 1
    assert "no map of this place fits into 0.01 MB" in told
    again = ["--refresh", output, "--images", images, "--output", tmp_path / "b.pixmap.h5"]
    code, told = build(capsys, *again)
    assert code == 1
    assert "images are found in" in told
    assert "in the map already" in told


def test_depth_gives_points_where_there_are_none(room, drive, tmp_path):
    scene = make_room(7)
    model = read_colmap(room.root / "sparse")
    few = np.zeros(len(model.points), bool)
    few[::40] = True
    thin = subset(model, np.ones(len(model.names), bool), few)
    camera = model.cameras[0].camera()
    measured = list(enumerate(model.names[:10]))
    depth = {name: scene.render(camera, model.pose(i))[1] for i, name in measured}
    depth[model.names[0]][:240] = 0.0  # a sensor sees not everything
    del depth[model.names[1]]

    def gray(name):
        return cv2.cvtColor(read_image(room.root / "images" / name), cv2.COLOR_RGB2GRAY)

    full = add_depth_points(thin, depth.get, gray)
    assert np.array_equal(full.points[: len(thin.points)], thin.points)
    assert len(full.points) > 8 * len(thin.points)
    new = np.arange(len(full.points)) >= len(thin.points)
    assert np.median(full.track_length[new]) >= 3
    for number, name in enumerate(full.names):
        seen = full.observed[full.offsets[number] : full.offsets[number + 1]]
        seen = seen[seen >= len(thin.points)]
        if name not in depth:
            assert not len(seen)
            continue
        inside = full.pose(number).transform(torch.from_numpy(full.points[seen]))
        pixels, visible = camera.project(inside)
        assert visible.all()
        column, row = pixels.long().unbind(-1)
        there = torch.from_numpy(depth[name])[row, column]
        assert ((there - inside[:, 2]).abs() < 0.031 * inside[:, 2]).all()
        # spread: hardly two in a cell
        cells = (pixels / 24).long().numpy()
        assert len(np.unique(cells, axis=0)) > 0.2 * len(cells)


def test_depth_of_a_folder(drive, posed, network, tmp_path, capsys):
    _, sequence = drive
    images, listed, poses = posed
    scene, camera = make_room(7), sequence.frames[0].camera
    (tmp_path / "depth").mkdir()
    for name in list(poses)[::3]:  # the others have none
        metres = scene.render(camera, poses[name])[1]
        path = (tmp_path / "depth" / name).with_suffix(".png")
        cv2.imwrite(str(path), (5000 * metres).astype(np.uint16))
    output = tmp_path / "room.pixmap.h5"
    command = ["--images", images, "--poses", listed, "--camera", camera_words(sequence)]
    command += ["--output", output, "--depth", tmp_path / "depth", "--depth-unit", "0.0002"]
    code, said = build(capsys, *command)
    assert code == 0, said
    with PixMap(output) as pixmap:
        assert pixmap.provenance[0]["depth_points"] > 50
    assert worst(output, sequence, network) < 0.03
    cv2.imwrite(str(path), np.zeros((20, 20), np.uint16))
    assert "20 x 20 pixels, its camera has 640 x 480" in build(capsys, *command)[1]
    cv2.imwrite(str(path), np.zeros((20, 20, 3), np.uint8))
    assert "not a depth image" in build(capsys, *command)[1]


def test_depth_of_a_bag(tmp_path):
    store = get_typestore(Stores.ROS2_KILTED)
    kind = store.types["sensor_msgs/msg/Image"]
    header, time = store.types["std_msgs/msg/Header"], store.types["builtin_interfaces/msg/Time"]
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {
            topic: writer.add_connection(topic, kind.__msgtype__, typestore=store)
            for topic in ("/depth", "/metres", "/colour")
        }
        for stamp, value in ((1.0, 500), (1.010, 700), (1.100, 900)):
            nanoseconds = round(stamp * 1e9)
            at = time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
            for topic, encoding, pixels in (
                ("/depth", "16UC1", np.full((2, 3), value, np.uint16)),
                ("/metres", "32FC1", np.array([[value / 1000, np.nan, np.inf]], np.float32)),
                ("/colour", "rgb8", np.zeros((2, 3, 3), np.uint8)),
            ):
                message = kind(
                    header=header(stamp=at, frame_id="depth"),
                    height=pixels.shape[0],
                    width=pixels.shape[1],
                    encoding=encoding,
                    is_bigendian=0,
                    step=pixels.nbytes // pixels.shape[0],
                    data=np.frombuffer(array.array("B", pixels.tobytes()), np.uint8),
                )
                raw = store.serialize_cdr(message, kind.__msgtype__)
                writer.write(topics[topic], nanoseconds, raw)
    names = {1.008: "1.008000.jpg", 1.2: "1.200000.jpg"}
    extract_depth(tmp_path / "bag", "/depth", names, tmp_path / "depth")
    assert [path.name for path in (tmp_path / "depth").iterdir()] == ["1.008000.png"]
    assert (cv2.imread(str(tmp_path / "depth" / "1.008000.png"), -1) == 700).all()
    extract_depth(tmp_path / "bag", "/metres", names, tmp_path / "depth")
    kept = cv2.imread(str(tmp_path / "depth" / "1.008000.png"), -1)
    assert kept.tolist() == [[700, 0, 0]]
    with pytest.raises(InputError, match="not depth"):
        extract_depth(tmp_path / "bag", "/colour", names, tmp_path / "depth")


def test_positions_by_gps(drive, network, tmp_path, capsys):
    _, sequence = drive
    images = tmp_path / "images"
    images.mkdir()
    frames = sequence.frames[::3]
    centres = np.stack([f.truth.inverse().translation.numpy() for f in frames])
    east = centres - centres[0]
    degrees = pycolmap.GPSTransform().enu_to_ellipsoid(east, 48.2, 11.6, 520.0)
    for frame, (latitude, longitude, altitude) in zip(frames, degrees, strict=True):
        picture = Picture.open(sequence.images / frame.name)
        exif = picture.getexif()
        exif.get_ifd(0x8825).update(
            {
                1: "N",
                2: _sexagesimal(latitude),
                3: "E",
                4: _sexagesimal(longitude),
                5: b"\0",
                6: TiffImagePlugin.IFDRational(round(1e4 * altitude), 10**4),
            }
        )
        picture.save(images / frame.name.split("/")[-1], quality=95, exif=exif)
    output = tmp_path / "room.pixmap.h5"
    code, said = build(capsys, "--images", images, "--output", output, "--gps")
    assert code == 0, said
    assert "in the frame of 10 known positions" in said
    shift = Pose(torch.eye(3, dtype=torch.float64), torch.from_numpy(-centres[0]))
    assert worst(output, sequence, network, map_from_room=shift) < 0.08
    plain = tmp_path / "plain"
    shutil.copytree(images, plain)
    for path in plain.iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path)))
    code, said = build(capsys, "--images", plain, "--output", tmp_path / "b.pixmap.h5", "--gps")
    assert code == 1
    assert "0 images with a GPS position" in said


def _sexagesimal(degrees):
    minutes = 60 * (degrees % 1)
    seconds = round(60 * (minutes % 1) * 10**6)
    rational = TiffImagePlugin.IFDRational
    return (rational(int(degrees), 1), rational(int(minutes), 1), rational(seconds, 10**6))


def test_the_frame_of_a_marker(drive, network, tmp_path, capsys):
    """An AprilTag of 40 cm that hangs before a wall is the origin, and gives the metres."""
    _, sequence = drive
    images, side = tmp_path / "images", 0.4
    images.mkdir()
    frames = sequence.frames[::2]
    middle = frames[len(frames) // 2].truth.inverse()
    # a metre and a half ahead of the middle of the drive, upright, looking back
    turn = middle.rotation @ torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    place = middle.transform(torch.tensor([[0.1, 0.0, 1.5]], dtype=torch.float64))[0]
    room_from_marker = Pose(turn, place)
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
    sheet = np.full((240, 240), 255, np.uint8)
    sheet[20:220, 20:220] = cv2.aruco.generateImageMarker(dictionary, 7, 200)
    half = side / 2 * 240 / 200
    corners = torch.tensor(
        [[-half, half, 0], [half, half, 0], [half, -half, 0], [-half, -half, 0]]
    ).double()
    marked = tmp_path / "queries"
    for frame in sequence.frames:
        image = cv2.imread(str(sequence.images / frame.name))
        pixels, valid = frame.camera.project(
            frame.truth.transform(room_from_marker.transform(corners))
        )
        if valid.all():
            # OpenCV's pixel centres are at 0
            flat = np.float32([[0, 0], [240, 0], [240, 240], [0, 240]]) - 0.5
            where = cv2.getPerspectiveTransform(flat, np.float32(pixels.numpy() - 0.5))
            warped = cv2.warpPerspective(sheet, where, (640, 480), flags=cv2.INTER_AREA)
            inside = cv2.warpPerspective(np.ones_like(sheet), where, (640, 480)) > 0
            image[inside] = warped[inside][:, None]
        (marked / frame.name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(marked / frame.name), image)
        if frame in frames:
            cv2.imwrite(str(images / frame.name.split("/")[-1]), image)
    output = tmp_path / "room.pixmap.h5"
    command = ["--images", images, "--output", output, "--camera", camera_words(sequence)]
    code, said = build(capsys, *command, "--marker", side)
    assert code == 0, said
    assert "in the frame of marker 7 of APRILTAG_36h11, seen in" in said
    with PixMap(output) as pixmap:
        for frame in frames:
            pose = pixmap.pose(pixmap.names.find(frame.name.split("/")[-1]))
            metres, radians = pose.distance(frame.truth @ room_from_marker)
            assert float(metres) < 0.07
            assert float(radians) < 0.04
    command[1] = drive[0] / "room" / "images" / "query"
    code, said = build(capsys, *command, "--marker", side)
    assert code == 1
    assert "no image shows a marker" in said


def test_a_map_as_a_colmap_model(room, tmp_path, capsys):
    target = tmp_path / "sparse"
    command = ["edit_map", str(room.map_file), "--colmap", str(target)]
    assert main(command) == 0
    with PixMap(room.map_file) as pixmap:
        model, back = pixmap.model, read_colmap(target)
        assert back.names == model.names
        assert back.cameras == model.cameras
        for ours, theirs in zip(
            (model.quaternion, model.translation, model.offsets, model.points),
            (back.quaternion, back.translation, back.offsets, back.points),
            strict=True,
        ):
            assert np.allclose(ours, theirs, atol=1e-12)
        assert np.array_equal(model.observed, back.observed)
    assert pycolmap.Reconstruction(str(target)).num_points3D() == len(model.points)
    assert main(command) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["edit_map", str(room.map_file)]) == 1


def test_provenance_is_told(room, network, tmp_path, capsys):
    output = tmp_path / "a.pixmap.h5"
    command = ["--colmap", room.root / "sparse", "--images", room.root / "images"]
    assert build(capsys, *command, "--output", output)[0] == 0
    less = tmp_path / "less.pixmap.h5"
    assert main(["edit_map", str(output), "--keep-points", "0.5", "--output", str(less)]) == 0
    with PixMap(less) as pixmap:
        assert [step["step"] for step in pixmap.provenance] == ["build_map", "edit_map"]
        assert pixmap.provenance[0]["name"] == "sparse"
        assert pixmap.provenance[1]["keep_points"] == 0.5
    capsys.readouterr()
    assert main(["validate_map", str(less)]) == 0
    out = capsys.readouterr().out
    assert "made        build_map: " in out
    assert "keep_points 0.5" in out
    with h5py.File(less, "r+") as file:
        told = json.loads(file.attrs["provenance"])
        file.attrs["provenance"] = json.dumps(told[:1])
    assert main(["validate_map", str(less)]) == 1
    assert "checksum" in capsys.readouterr().err


def test_a_folder_of_someone_else_is_no_work_folder(tmp_path, capsys):
    """A project's own model and images are not thrown away for it."""
    project = tmp_path / "project"
    (project / "sparse").mkdir(parents=True)
    (project / "sparse" / "mine.txt").write_text("mine")
    given = ["--images", tmp_path, "--scale", "1", "--output", tmp_path / "m.pixmap.h5"]
    code, said = build(capsys, *given, "--work", project)
    assert code == 1
    assert f"{project}: holds sparse, which no build made" in said
    assert (project / "sparse" / "mine.txt").read_text() == "mine"
    new = tmp_path / "new" / "work"
    claim(new)
    (new / "images").mkdir()
    claim(new)  # of an earlier build
    with pytest.raises(InputError, match="a file"):
        claim(project / "sparse" / "mine.txt")


def test_which_images_are_found(tmp_path):
    images = tmp_path / "images"
    elsewhere = tmp_path / "elsewhere"
    for folder in (images, elsewhere):
        folder.mkdir()
    rng = np.random.default_rng(0)
    for path in (images / "a.jpg", images / "b.PNG", elsewhere / "c.jpg", images / "d e.jpg"):
        cv2.imwrite(str(path), rng.integers(0, 255, (48, 64, 3), np.uint8))
    cv2.imwrite(str(images / "f.webp"), rng.integers(0, 255, (48, 64, 3), np.uint8))
    (images / "g.heic").write_bytes(b"film")
    (images / "notes.txt").write_text("no image")
    (images / "left").symlink_to(elsewhere)
    (images / "left" / "circle").symlink_to(images)
    names, left_out = find_images(images)
    assert names == ["a.jpg", "b.PNG", "left/c.jpg"]
    assert sorted(left_out.reasons.values()) == [1, 2]
    assert "of a format that COLMAP does not read" in left_out.as_text()


def test_depth_that_cannot_be_used(tmp_path):
    """One depth image of another size costs itself; none at all is said."""
    images = tmp_path / "images"
    images.mkdir()
    made = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model="PINHOLE", width=64, height=48, params=[60, 60, 32, 24], camera_id=1
    )
    made.add_camera_with_trivial_rig(camera)
    for number in range(1, 4):
        name = f"{number}.jpg"
        cv2.imwrite(
            str(images / name), np.random.default_rng(number).integers(0, 255, (48, 64, 3))
        )
        points = pycolmap.Point2DList([pycolmap.Point2D(np.array([32.0, 24.0]))])
        image = pycolmap.Image(name, points, camera_id=1, image_id=number)
        made.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    track = pycolmap.Track([pycolmap.TrackElement(n, 0) for n in range(1, 4)])
    made.add_point3D(np.array([0.0, 0.0, 2.0]), track)
    source, said = Source(read_colmap(made), images, {}), []
    work = Work(tmp_path, None, said.append)
    depth = tmp_path / "depth"
    depth.mkdir()
    with pytest.raises(InputError, match=r"no depth image has an image's name \(1.png\)"):
        DepthFolder(depth).add(source, work)
    cv2.imwrite(str(depth / "1.png"), np.full((48, 64), 2000, np.uint16))
    cv2.imwrite(str(depth / "2.png"), np.full((40, 64), 2000, np.uint16))
    (depth / "3.png").write_bytes(b"none")
    added = DepthFolder(depth).add(source, work)
    assert len(added.model.points) > 1
    assert "1 of another size than the camera" in said[0]
    assert "1 not readable" in said[0]
    (depth / "1.png").unlink()
    with pytest.raises(InputError, match="no depth image can be used"):
        DepthFolder(depth).add(source, work)
