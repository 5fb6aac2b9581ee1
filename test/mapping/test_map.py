from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import cv2
import h5py
import numpy as np
import pycolmap
import pytest
import torch

from pixloc_ros.features import ImageError, PyramidLevel, read_image
from pixloc_ros.features.compact import CompactNetwork
from pixloc_ros.features.pixloc import PixLocVGG16
from pixloc_ros.localization import Localizer
from pixloc_ros.mapping import (
    MapError,
    ModelError,
    PixMap,
    build_map,
    map_writer,
    read_colmap,
    sampling,
)
from pixloc_ros.mapping.map_writer import atomic_map
from pixloc_ros.mapping.sparse_model import in_order_of_sight, keep_long_tracks


@pytest.fixture
def model(room):
    return read_colmap(room.root / "sparse")


@pytest.fixture
def copy(room, tmp_path):
    """A map file that a test may damage."""
    return shutil.copy(room.map_file, tmp_path / "copy.pixmap.h5")


def test_reads_binary_text_and_reconstruction_alike(room, tmp_path, model):
    loaded = pycolmap.Reconstruction(str(room.root / "sparse"))
    (tmp_path / "text").mkdir()
    loaded.write_text(str(tmp_path / "text"))
    for other in (read_colmap(loaded), read_colmap(tmp_path / "text")):
        assert other.names == model.names
        assert other.cameras == model.cameras
        assert np.allclose(other.points, model.points)
        assert np.allclose(other.quaternion, model.quaternion)
        assert np.array_equal(other.observed, model.observed)


def test_model_says_who_sees_what(room, model):
    loaded = pycolmap.Reconstruction(str(room.root / "sparse"))
    image = loaded.find_image_with_name(model.names[3])
    expected = sorted(p.point3D_id for p in image.get_observation_points2D())
    ids = np.array(sorted(loaded.points3D))
    seen = model.observed[model.offsets[3] : model.offsets[4]]
    assert ids[np.sort(seen)].tolist() == expected
    pose = model.pose(3).matrix()[:3].numpy()
    assert np.allclose(pose, image.cam_from_world().matrix())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such folder"),
        (lambda p: p.mkdir(), "no COLMAP model"),
        (lambda p: (p.mkdir(), (p / "cameras.bin").touch()), "lacks images.bin"),
        (
            lambda p: (
                p.mkdir(),
                [(p / f"{n}.bin").touch() for n in ("cameras", "images", "points3D")],
            ),
            "damaged COLMAP model",
        ),
    ],
)
def test_unusable_model_folders(tmp_path, make, message):
    make(tmp_path / "sparse")
    with pytest.raises(ModelError, match=message) as caught:
        read_colmap(tmp_path / "sparse")
    assert str(tmp_path / "sparse") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["points3D", "images", "cameras"])
@pytest.mark.parametrize("cut", [100, 0.5, 3])
def test_truncated_model(room, tmp_path, name, cut):
    shutil.copytree(room.root / "sparse", tmp_path / "sparse")
    file = tmp_path / "sparse" / f"{name}.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(cut * len(whole))] if cut < 1 else whole[: -min(cut, 20)])
    with pytest.raises(ModelError, match="damaged"):
        read_colmap(tmp_path / "sparse")


def test_model_without_points(room, tmp_path):
    loaded = pycolmap.Reconstruction(str(room.root / "sparse"))
    for point in list(loaded.points3D):
        loaded.delete_point3D(point)
    (tmp_path / "empty").mkdir()
    loaded.write(str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="no 3D points"):
        read_colmap(tmp_path / "empty")


def test_short_tracks_are_dropped(model):
    kept = keep_long_tracks(model, 3)
    assert 0 < len(kept.points) < len(model.points)
    assert kept.track_length.min() >= 3
    assert np.array_equal(np.bincount(kept.observed), kept.track_length)
    before = {tuple(p) for p in model.points[model.observed[model.offsets[2] : model.offsets[3]]]}
    after = {tuple(p) for p in kept.points[kept.observed[kept.offsets[2] : kept.offsets[3]]]}
    assert after < before
    with pytest.raises(ModelError, match="1000 references"):
        keep_long_tracks(model, 1000)


def unseeing(model, number):
    """The model, in which a reference observes nothing."""
    begin, end = model.offsets[number : number + 2]
    return replace(
        model,
        observed=np.delete(model.observed, np.s_[begin:end]),
        offsets=np.where(np.arange(len(model.offsets)) > number, 1, 0) * (begin - end)
        + model.offsets,
    )


def test_a_reference_that_sees_nothing_is_left_out(room, model, network, tmp_path, caplog):
    output = tmp_path / "place.pixmap.h5"
    build_map(unseeing(model, 1), room.root / "images", output, network)
    assert f"they see no point that 3 images see (the first: {model.names[1]})" in caplog.text
    with PixMap(output) as pixmap:
        assert list(pixmap.names) == [n for k, n in enumerate(model.names) if k != 1]


def test_points_outside_of_their_image_are_dropped_and_nothing_breaks(
    room, model, network, tmp_path
):
    """All that one reference observes lies behind it: the map is built, and localizes."""
    translation = model.translation.copy()
    translation[1, 2] -= 1e3
    output = tmp_path / "place.pixmap.h5"
    wrong = replace(model, translation=translation)
    summary = build_map(wrong, room.root / "images", output, network)
    assert summary.dropped_observations > 100
    with PixMap(output) as pixmap:
        assert len(pixmap.reference(1).xyz) == 0
        image = read_image(room.root / "images" / model.names[0])
        camera = model.cameras[model.camera_index[0]].camera()
        every = [model.names[1], *model.names]
        found = Localizer(pixmap, network).localize(image, camera, references=every)
        assert found.ok


def test_map_holds_the_model_and_matching_features(room, model):
    with PixMap(room.map_file) as pixmap:
        pixmap.verify()
        assert len(pixmap) == len(model.names)
        assert np.allclose(pixmap.model.translation, model.translation)
        for statistics in pixmap.statistics:
            # features of one point in two images are nearer than those of two points
            assert statistics.matching[50] < 0.6 * statistics.unrelated[50]
        reference = pixmap.reference(0)
        for features, confidence in zip(reference.features, reference.confidence, strict=True):
            norms = features.float().norm(dim=-1)[confidence > 0]
            assert torch.allclose(norms, torch.ones_like(norms), atol=2e-3)
            assert features.dtype == torch.float16
        # the finest level decides what is kept
        assert (reference.confidence[-1] > 0).all()


def build(room, network, output, **options):
    return build_map(
        read_colmap(room.root / "sparse"), room.root / "images", output, network, **options
    )


def test_own_pyramid_and_progress(room, network, tmp_path):
    seen = []
    levels = [PyramidLevel(160, 1), PyramidLevel(160, 0)]
    summary = build(
        room,
        network,
        tmp_path / "small.pixmap.h5",
        levels=levels,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (summary.references, summary.references)
    with PixMap(tmp_path / "small.pixmap.h5") as pixmap:
        assert pixmap.header.levels == tuple(levels)
        assert len(pixmap.model.observed) == summary.observations


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda i: i.unlink(), ImageError, "no such image, but the model has it"),
        (lambda i: i.write_bytes(i.read_bytes()[:100]), ImageError, "not a readable image"),
        (lambda i: i.write_bytes(b""), ImageError, "not a readable image"),
        (
            lambda i: shutil.copy(i.parents[2] / "tiny.png", i),
            ImageError,
            "its camera has 640 x 480",
        ),
    ],
)
def test_bad_images_leave_nothing_behind(room, network, tmp_path, damage, error, message):
    images = tmp_path / "images"
    shutil.copytree(room.root / "images", images)
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((48, 64, 3), np.uint8))
    damage(images / "db" / "0005.jpg")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(error, match=message) as caught:
        build_map(read_colmap(room.root / "sparse"), images, out / "m.pixmap.h5", network)
    assert "0005.jpg" in str(caught.value)
    assert list(out.iterdir()) == []


def test_a_failing_build_keeps_the_old_map(room, network, copy, monkeypatch):
    before = copy.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(map_writer, "_write_statistics", full)
    with pytest.raises(OSError, match="No space"):
        build(room, network, copy)
    assert copy.read_bytes() == before
    assert os.listdir(copy.parent) == [copy.name]


@pytest.mark.parametrize(
    ("name", "message"), [("m.h5", "ends in"), ("no/m.pixmap.h5", "no such folder")]
)
def test_bad_output_names(room, network, tmp_path, name, message):
    with pytest.raises(MapError, match=message):
        build(room, network, tmp_path / name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.unlink(), "no such map file"),
        (lambda p: p.write_bytes(b""), "truncated, or no map file"),
        (lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "truncated"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "truncated"),
        (lambda p: p.write_text("not a map"), "no map file"),
    ],
)
def test_files_that_are_no_map(copy, make, message):
    make(copy)
    with pytest.raises(MapError, match=message) as caught:
        PixMap(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.pop("format"), "not a map"),
        (lambda f: f.attrs.modify("version", 9), "version 9"),
        (lambda f: f.attrs.modify("header", "{"), "damaged"),
        (lambda f: f.__delitem__("points/xyz"), "damaged"),
        (lambda f: f.__delitem__("levels/0/features"), "damaged"),
        (lambda f: f["observations/point"].__setitem__(0, 10**8), "an observation of no point"),
        (lambda f: f["observations/offsets"].__setitem__(1, -4), "observation offsets"),
        (lambda f: f["references/camera"].__setitem__(0, 7), "without camera"),
        (lambda f: f["points/xyz"].__setitem__((0, 0), np.nan), "not finite"),
        (
            lambda f: f["cameras"].__setitem__(
                0, '{"model": "ODD", "width": 1, "height": 1, "params": []}'
            ),
            "not supported",
        ),
    ],
)
def test_foreign_and_damaged_content(copy, change, message):
    with h5py.File(copy, "r+") as file:
        change(file)
    with pytest.raises(MapError, match=message) as caught:
        PixMap(copy)
    assert str(copy) in str(caught.value)


def test_verify_notices_a_changed_feature(copy):
    with h5py.File(copy, "r+") as file:
        file["levels/2/features"][7, 3] += np.float16(0.25)
    with PixMap(copy) as pixmap, pytest.raises(MapError, match="checksum"):
        pixmap.verify()


def test_another_network_is_refused(room, network):
    other = CompactNetwork()
    with PixMap(room.map_file) as pixmap:
        pixmap.require(network)
        with pytest.raises(MapError, match="other compact weights"):
            pixmap.require(other)
        with pytest.raises(MapError, match="filled by a compact network, not by pixloc_vgg16"):
            pixmap.require(PixLocVGG16())


def test_points_lie_together_that_are_seen_together(model):
    shuffle = np.random.default_rng(0).permutation(len(model.points))
    places = np.argsort(shuffle)
    shuffled = replace(
        model,
        points=model.points[shuffle],
        track_length=model.track_length[shuffle],
        observed=places[model.observed].astype(np.int32),
    )
    ordered = in_order_of_sight(shuffled)
    seen = np.unique(ordered.observed, return_index=True)[1]
    assert np.array_equal(seen, np.sort(seen))  # the first time each is seen, in their order
    for number in range(len(model.names)):
        one = model.points[model.observed[model.offsets[number] : model.offsets[number + 1]]]
        rows = ordered.observed[ordered.offsets[number] : ordered.offsets[number + 1]]
        other = ordered.points[rows]
        assert (np.diff(rows) > 0).all()
        assert np.array_equal(np.sort(one, axis=0), np.sort(other, axis=0))


def test_processes_and_interruptions_give_the_same_file(room, network, tmp_path, monkeypatch):
    """To the byte: one process, two, and one that goes on where another was stopped."""
    model, images = read_colmap(room.root / "sparse"), room.root / "images"
    pieces = tmp_path / "pieces"

    def build(name, **more):
        path = tmp_path / f"{name}.pixmap.h5"
        build_map(model, images, path, network, **more)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    one = build("one")
    assert build("two", workers=2) == one

    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        build("cut", pieces=pieces, progress=stop)
    kept = sorted(pieces.iterdir())
    assert len(kept) == 5
    assert not (tmp_path / "cut.pixmap.h5").exists()
    kept[0].write_bytes(kept[0].read_bytes()[:1000])
    sampled = []
    sample = sampling.Sampler._sample
    monkeypatch.setattr(
        sampling.Sampler, "_sample", lambda self, s: sampled.append(s) or sample(self, s)
    )
    assert build("cut", pieces=pieces) == one
    assert len(sampled) == len(model.names) - 4
    assert not pieces.exists()


def test_two_programs_do_not_write_one_map(tmp_path):
    path = tmp_path / "a.pixmap.h5"
    other = (
        "import sys\nfrom pathlib import Path\n"
        "from pixloc_ros.mapping.map_writer import atomic_map\n"
        "with atomic_map(Path(sys.argv[1])): pass"
    )
    command = [sys.executable, "-c", other, str(path)]
    with atomic_map(path) as file:
        file["x"] = 1
        refused = subprocess.run(command, capture_output=True, text=True)
        assert f"{path}: another program is writing it" in refused.stderr
    with h5py.File(path) as file:
        assert list(file) == ["x"]
    # what a killed one left over is no hindrance
    path.with_name(".a.pixmap.h5.partial").write_bytes(b"half")
    subprocess.run(command, check=True)
    assert os.listdir(tmp_path) == ["a.pixmap.h5"]
