"""Models, maps, lists and JSON that are cut or damaged anywhere: read in whole, or one line."""

from __future__ import annotations

import json

import cv2
import h5py
import numpy as np
import pycolmap
import pytest

from pixloc_ros.datasets import read_pairs, read_poses, read_queries
from pixloc_ros.datasets.hloc_features import read_keypoints, read_matches
from pixloc_ros.datasets.sequence import read_timestamps, read_trajectory
from pixloc_ros.datasets.transforms_json import read_transforms
from pixloc_ros.errors import InputError
from pixloc_ros.left_out import LeftOut
from pixloc_ros.mapping import PixMap, read_colmap
from pixloc_ros.mapping.sparse_model import ModelError

CUTS = 200


def made(kind="PINHOLE", cameras=3, points=6):
    model = pycolmap.Reconstruction()
    for number in range(1, cameras + 1):
        camera = pycolmap.Camera.create_from_model_name(number, kind, 500.0, 640, 480)
        model.add_camera_with_trivial_rig(camera)
        keypoints = [pycolmap.Point2D(np.array([10.0 + p, 20.0])) for p in range(points)]
        image = pycolmap.Image(
            f"{number}.jpg", pycolmap.Point2DList(keypoints), camera_id=number, image_id=number
        )
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    for point in range(points):
        track = [pycolmap.TrackElement(n, point) for n in range(1, cameras + 1)]
        model.add_point3D(np.array([0.1 * point, 0.0, 2.0]), pycolmap.Track(track))
    return model


def written(model, folder, text=False):
    folder.mkdir()
    (model.write_text if text else model.write_binary)(str(folder))
    return folder


def cuts(data):
    return sorted({*np.random.default_rng(0).integers(0, len(data), CUTS).tolist()})


def attempt(read):
    """Whether it was read; else the line that says why not."""
    try:
        read()
    except InputError as error:
        line = str(error)
    else:
        return None
    assert line
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("suffix", [".bin", ".txt"])
def test_colmap_models(name, suffix, tmp_path):
    folder = written(made(), tmp_path / "model", suffix == ".txt")
    whole = read_colmap(folder)
    file = folder / f"{name}{suffix}"
    data = file.read_bytes()
    for length in cuts(data):
        file.write_bytes(data[:length])
        line = attempt(lambda: read_colmap(folder))
        if line is None:  # only what may be missing at the end is
            assert data[length:].strip() == b""
        else:
            assert str(folder) in line
    file.write_bytes(data)
    assert len(read_colmap(folder).points) == len(whole.points)


def test_bytes_of_a_colmap_model_that_are_changed(tmp_path):
    folder = written(made(), tmp_path / "model")
    rng = np.random.default_rng(0)
    for name in ("cameras", "images", "points3D"):
        file = folder / f"{name}.bin"
        data = np.frombuffer(file.read_bytes(), np.uint8)
        for _ in range(CUTS):
            damaged = data.copy()
            damaged[rng.integers(0, len(data), 3)] = rng.integers(0, 255, 3)
            file.write_bytes(damaged.tobytes())
            attempt(lambda: read_colmap(folder))
        file.write_bytes(data.tobytes())


@pytest.mark.parametrize("kind", [k for k in pycolmap.CameraModelId.__members__ if k != "INVALID"])
@pytest.mark.parametrize("text", [False, True])
def test_every_camera_model_of_colmap_is_read_or_named(kind, text, tmp_path):
    folder = written(made(kind), tmp_path / "model", text)
    line = attempt(lambda: read_colmap(folder))
    if kind == "EQUIRECTANGULAR":
        assert "'EQUIRECTANGULAR' is not supported" in line
    else:
        assert line is None


def test_camera_models_of_the_future(tmp_path):
    folder = written(made(), tmp_path / "text", True)
    cameras = folder / "cameras.txt"
    cameras.write_text(cameras.read_text().replace("PINHOLE", "MOEBIUS"))
    with pytest.raises(ModelError, match=r"cameras.txt:4: camera model 'MOEBIUS'"):
        read_colmap(folder)
    folder = written(made(), tmp_path / "binary")
    cameras = folder / "cameras.bin"
    data = bytearray(cameras.read_bytes())
    data[12:16] = (99).to_bytes(4, "little")
    cameras.write_bytes(data)
    with pytest.raises(ModelError, match="camera model number 99 is not supported"):
        read_colmap(folder)


def test_an_absurd_point_or_image_costs_only_itself():
    model = made(cameras=5, points=9)
    model.points3D[3].xyz = np.array([np.nan, 0, 1])
    model.points3D[4].xyz = np.array([1e12, 0, 1])
    frame = model.images[2].frame
    frame.rig_from_world = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([np.inf, 0, 0]))
    left_out = LeftOut("part")
    read = read_colmap(model, left_out)
    assert read.names == ("1.jpg", "3.jpg", "4.jpg", "5.jpg")
    assert len(read.points) == 7
    assert np.isfinite(read.points).all()
    assert (read.track_length == 4).all()
    assert left_out.reasons == {
        "image with an impossible pose": 1,
        "point with impossible coordinates": 2,
    }


def test_mostly_absurd_models_are_refused():
    model = made()
    for point in list(model.points3D)[:4]:
        model.points3D[point].xyz = np.full(3, np.nan)
    with pytest.raises(ModelError, match="4 point with impossible coordinates, of 6"):
        read_colmap(model)


def test_maps(room, tmp_path):
    data = room.map_file.read_bytes()
    file = tmp_path / "cut.pixmap.h5"

    def opened():
        with PixMap(file) as pixmap:
            assert pixmap.names

    lines = set()
    for length in cuts(data)[::4]:
        file.write_bytes(data[:length])
        line = attempt(opened)
        assert str(file) in line
        lines.add(line)
    assert lines


def test_json(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        cv2.imwrite(str(images / f"{number}.png"), np.zeros((48, 64, 3), np.uint8))
    frames = [
        {"file_path": f"images/{n}.png", "transform_matrix": np.eye(4).tolist()} for n in range(3)
    ]
    text = json.dumps({"fl_x": 60.0, "frames": frames})
    file = tmp_path / "transforms.json"
    for length in cuts(text):
        file.write_text(text[:length])
        assert str(file) in attempt(lambda: read_transforms(file, images))
    for odd in ("[]", "{}", "null", "3", '{"frames": {}}', '{"frames": [3]}', "[" * 100000):
        file.write_text(odd)
        assert str(file) in attempt(lambda: read_transforms(file, images))


POSES = "a.jpg 1 0 0 0 0.5 0.5 0.5\n" + "b/c.jpg 0.5 0.5 0.5 0.5 1 2 3\n"


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_poses, POSES),
        (read_queries, "a.jpg PINHOLE 640 480 500 500 320 240\nb.jpg PINHOLE 6 4 5 5 3 2\n"),
        (read_pairs, "a.jpg b.jpg\na.jpg c.jpg\n"),
        (read_trajectory, "1.0 0 0 0 0 0 0 1\n2.0 0 0 0 0 0 0 1\n"),
        (lambda path: read_timestamps(path, []), "a.jpg 1.0\nb.jpg 2.0\n"),
    ],
)
def test_lists(read, text, tmp_path):
    file = tmp_path / "list.txt"
    rng = np.random.default_rng(0)
    for length in range(len(text)):
        file.write_text(text[:length])
        attempt(lambda: read(file))
    for _ in range(CUTS):
        data = bytearray(text.encode())
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 255)
        file.write_bytes(data)
        line = attempt(lambda: read(file))
        assert line is None or str(file) in line
    # as Windows and spreadsheets write them
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"# end\r\n\r\n")
    assert attempt(lambda: read(file)) is None


def test_names_with_blanks(tmp_path):
    file = tmp_path / "list.txt"
    for line in (
        '"my room/IMG 1.jpg" PINHOLE 6 4 5 5 3 2',
        "my room/IMG 1.jpg\tPINHOLE 6 4 5 5 3 2",
    ):
        file.write_text(line)
        assert list(read_queries(file)) == ["my room/IMG 1.jpg"]
    file.write_text("my room/IMG 1.jpg PINHOLE 6 4 5 5 3 2")
    with pytest.raises(InputError, match=r"list.txt:1: a name with blanks stands"):
        read_queries(file)
    file.write_text('"my room PINHOLE 6 4 5 5 3 2')
    with pytest.raises(InputError, match=r"list.txt:1: a quotation mark"):
        read_queries(file)
    file.write_text('"a b" "c d" # best\n')
    assert read_pairs(file) == {"a b": ["c d"]}


def test_poses_of_others(tmp_path):
    file = tmp_path / "poses.txt"
    file.write_text(
        "# name qw qx qy qz tx ty tz focal\r\na 1 0 0 0 0 0 0 525.0\r\n"
        "b nan nan nan nan nan nan nan\r\nc 1 0 0 0 1 1 1 # a remark\r\n"
    )
    left_out = LeftOut("line")
    assert list(read_poses(file, left_out)) == ["a", "c"]
    assert left_out.reasons == {"without a pose (NaN)": 1}
    with pytest.raises(InputError, match=r"poses.txt:3: a number is not finite"):
        read_poses(file)
    file.write_text("a 1 0 0 0 0 nan 0\n")
    with pytest.raises(InputError, match="not finite"):
        read_poses(file, left_out)


@pytest.mark.parametrize("separator", ["/", "_"])
def test_hloc_files(separator, tmp_path):
    names = ["a/1.jpg", "a/2.jpg"]
    features, matches = tmp_path / "f.h5", tmp_path / "m.h5"
    with h5py.File(features, "w") as file:
        for name in names:
            file[f"{name}/keypoints"] = np.zeros((4, 2), np.float32)
    with h5py.File(matches, "w") as file:
        # either image may come first
        file[f"a-2.jpg{separator}a-1.jpg/matches0"] = np.array([0, -1, 2, 3], np.int16)
    keypoints = read_keypoints(features, names)
    ((pair, found),) = read_matches(matches, keypoints).items()
    assert pair == ("a/2.jpg", "a/1.jpg")
    assert found.tolist() == [[0, 0], [2, 2], [3, 3]]
    for path, read in (
        (features, lambda: read_keypoints(features, names)),
        (matches, lambda: read_matches(matches, keypoints)),
    ):
        data = path.read_bytes()
        for length in cuts(data)[::4]:
            path.write_bytes(data[:length])
            assert str(path) in attempt(read)
        path.write_bytes(data)
