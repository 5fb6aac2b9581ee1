"""Training on real images: scene files, the public data sets' layouts, and their faults."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pycolmap
import pytest
import torch

from pixloc_ros.cli.main import main
from pixloc_ros.datasets.pair_files import (
    SceneFileError,
    read_scene,
    scene_of_model,
    shared_points,
    write_scene,
)
from pixloc_ros.datasets.training_scenes import MIN_SHARED, cmu_scene, megadepth_scene
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import FeatureTable, Pose
from pixloc_ros.mapping import read_colmap
from pixloc_ros.training.batch import StartOptions
from pixloc_ros.training.image_pairs import ImagePairOptions, ImagePairs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scene_file(room, tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes") / "room.npz"
    write_scene(scene_of_model(read_colmap(room.sequence.model)), path)
    return path


def pairs_of(room, scene_file, **options):
    chosen = ImagePairOptions(images=str(room.sequence.images), samples=2, size=256, **options)
    return ImagePairs(chosen, [str(scene_file)], StartOptions(), 0, CPU)


def test_a_scene_file_holds_the_model(room, scene_file):
    model, scene = read_colmap(room.sequence.model), read_scene(scene_file)
    assert scene.names == model.names
    assert np.array_equal(scene.points, model.points)
    assert scene.cameras == model.cameras
    for i in range(len(scene.names)):
        seen = model.observed[model.offsets[i] : model.offsets[i + 1]]
        assert np.array_equal(scene.observed[i], np.unique(seen))
    i, j = 2, 3
    both = np.intersect1d(scene.observed[i], scene.observed[j])
    assert scene.overlap[i, j] == pytest.approx(len(both) / len(scene.observed[i]), abs=1e-3)


def test_overlap_is_the_share_of_the_first(tmp_path):
    overlap = shared_points([np.array([0, 1, 2, 3]), np.array([3, 4])], 5)
    assert overlap.tolist() == [[1.0, 0.25], [0.5, 1.0]]


def test_batches_show_the_points_where_they_are(room, scene_file):
    pairs = pairs_of(room, scene_file)
    batch = pairs.finish(0, range(2), pairs.prepare(0, range(2)))
    pixels, seen = batch.targets
    assert seen.sum(-1).min() > 20
    grey = batch.images.mean(1)
    own, inside = batch.cameras[batch.reference].project(batch.points)
    assert inside[batch.mask].float().mean() > 0.95
    for k in range(2):
        a = FeatureTable(grey[batch.reference[k]][None]).sample(own[k][seen[k]])[:, 0]
        b = FeatureTable(grey[batch.query[k]][None]).sample(pixels[k][seen[k]])[:, 0]
        assert np.corrcoef(a, b)[0, 1] > 0.6
    again = pairs.prepare(0, range(2))
    assert torch.equal(again.images, batch.images)
    alone = pairs.prepare(0, range(1, 2))
    assert torch.equal(alone.points[0], batch.points[1])


def test_a_scene_without_overlap_is_left_out_or_refused(room, scene_file, tmp_path, caplog):
    lonely = replace(read_scene(scene_file), overlap=np.eye(16, dtype=np.float32))
    write_scene(lonely, tmp_path / "lonely.npz")
    with pytest.raises(InputError, match="no scene has a pair"):
        pairs_of(room, tmp_path / "lonely.npz")
    options = ImagePairOptions(images=str(room.sequence.images))
    files = [str(tmp_path / "lonely.npz"), str(scene_file)]
    both = ImagePairs(options, files, StartOptions(), 0, CPU)
    assert "lonely.npz: no pair with an overlap" in caplog.text
    assert len(both.prepare.files) == 1
    with pytest.raises(InputError, match="a scene file each"):
        ImagePairs(options, [], StartOptions(), 0, CPU)


def test_damaged_scene_files_are_one_clear_line(scene_file, tmp_path):
    whole = scene_file.read_bytes()
    bad = tmp_path / "bad.npz"
    for content, message in [
        (whole[: len(whole) // 2], "damaged"),
        (b"", "damaged"),
        (b"text", "damaged"),
    ]:
        bad.write_bytes(content)
        with pytest.raises(SceneFileError, match=message):
            read_scene(bad)
    with pytest.raises(SceneFileError, match="no such scene file"):
        read_scene(tmp_path / "none.npz")
    scene = read_scene(scene_file)
    write_scene(replace(scene, points=scene.points * np.nan), bad)
    with pytest.raises(SceneFileError, match="not finite"):
        read_scene(bad)
    write_scene(replace(scene, overlap=scene.overlap[:3]), bad)
    with pytest.raises(SceneFileError, match="differ in length"):
        read_scene(bad)


def test_a_missing_or_resized_image_is_named(room, scene_file, tmp_path):
    options = ImagePairOptions(images=str(tmp_path))
    pairs = ImagePairs(options, [str(scene_file)], StartOptions(), 0, CPU)
    with pytest.raises(InputError, match="no such image"):
        pairs.prepare(0, range(1))


@pytest.fixture
def megadepth(room, tmp_path):
    folder = tmp_path / "datasets" / "megadepth" / "Undistorted_SfM" / "0001"
    folder.mkdir(parents=True)
    shutil.copytree(room.sequence.model, folder / "sparse")
    (folder / "images").symlink_to(room.sequence.images)
    return tmp_path


def test_megadepth_in_the_original_layout(megadepth, capsys):
    output = megadepth / "scenes"
    command = ["preprocess", "megadepth", "--root", megadepth / "datasets", "--output", output]
    assert main([str(a) for a in command]) == 0
    assert "0001.npz: 16 images" in capsys.readouterr().out
    scene = read_scene(output / "0001.npz")
    assert scene.names[0].startswith("0001/images/db/")
    assert (scene.overlap > 0.3).sum() > 16
    root = megadepth / "datasets" / "megadepth" / "Undistorted_SfM"
    options = ImagePairOptions(images=str(root), samples=1, size=128)
    pairs = ImagePairs(options, [str(output / "0001.npz")], StartOptions(), 0, CPU)
    assert pairs.prepare(0, range(1)).targets[1].any()


def test_megadepth_leaves_out_small_and_rolled_images(megadepth, monkeypatch):
    from pixloc_ros.datasets import training_scenes as module

    root = megadepth / "datasets"
    monkeypatch.setattr(module, "MIN_SIDE", 10_000)
    assert not megadepth_scene(root, "0001").overlap.any()
    monkeypatch.undo()
    model = pycolmap.Reconstruction(str(root / "megadepth/Undistorted_SfM/0001/sparse"))
    found = megadepth_scene(root, "0001")
    partner = int(found.overlap[3].argsort()[-2])
    assert found.overlap[3, partner] > 0
    image = model.find_image_with_name(found.names[3].removeprefix("0001/images/"))
    turn = pycolmap.Rotation3d(np.array([0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4)]))
    pose = image.cam_from_world()
    image.frame.set_cam_from_world(
        image.camera_id, pycolmap.Rigid3d(turn * pose.rotation, turn * pose.translation)
    )
    model.write(str(root / "megadepth/Undistorted_SfM/0001/sparse"))
    assert megadepth_scene(root, "0001").overlap[3, partner] == 0
    with pytest.raises(InputError, match="no such scene"):
        megadepth_scene(root, "0002")


@pytest.fixture
def cmu(room, tmp_path):
    """A slice as Extended CMU Seasons and hloc lay it out, from the rendered room."""
    data = tmp_path / "datasets" / "CMU"
    folder, sfm = data / "slice7", tmp_path / "hloc" / "CMU" / "slice7"
    for part in ("database", "query", "camera-poses"):
        (folder / part).mkdir(parents=True)
    (data / "intrinsics.txt").write_text(
        "c0 OPENCV 640 480 520 520 320 240 0 0 0 0\nc1 OPENCV 640 480 520 520 320 240 0 0 0 0\n"
    )
    model = pycolmap.Reconstruction(str(room.sequence.model))
    for number, image in model.images.items():
        name = f"img_{number:05d}_c0_13us.jpg"
        shutil.copy(room.sequence.images / image.name, folder / "database" / name)
        image.name = name
    target = sfm / "sfm_superpoint+superglue" / "model"
    target.mkdir(parents=True)
    model.write(str(target))
    lines = []
    for k, frame in enumerate(room.sequence.frames[:6]):
        name = f"img_{100 + k:05d}_c1_14us.jpg"
        shutil.copy(room.sequence.images / frame.name, folder / "query" / name)
        centre = frame.truth.inverse().translation
        numbers = [*frame.truth.quaternion().tolist(), *centre.tolist()]
        lines.append(f"{name} {' '.join(map(str, numbers))}\n")
    (folder / "camera-poses" / "slice7.txt").write_text("".join(lines))
    return tmp_path, room.sequence.frames[:6]


def test_cmu_in_the_original_layout(cmu, capsys):
    root, frames = cmu
    output = root / "scenes"
    command = ["preprocess", "cmu", "7", "--root", root / "datasets", "--sfm", root / "hloc"]
    assert main([str(a) for a in [*command, "--output", output]]) == 0
    scene = read_scene(output / "slice7.npz")
    assert len(scene.names) == 16 + 6
    assert scene.names[0].startswith("slice7/database/img_")
    assert scene.names[16].startswith("slice7/query/img_")
    poses = Pose.from_quaternion(scene.quaternion, scene.translation)
    metres, radians = poses[16:].distance(Pose.stack([f.truth for f in frames]))
    assert float(metres.max()) < 1e-6
    assert float(radians.max()) < 1e-5
    assert scene.cameras[scene.camera_index[16]].model == "OPENCV"
    assert not scene.overlap[16:].any()  # a query is never the reference
    assert scene.overlap[:16, 16:].max() > 0.3
    counts = np.array([len(o) for o in scene.observed[:16]])
    assert (scene.overlap[:16] * counts[:, None])[scene.overlap[:16] > 0].min() >= MIN_SHARED - 1
    options = ImagePairOptions(images=str(root / "datasets" / "CMU"), samples=2, size=160)
    pairs = ImagePairs(options, [str(output / "slice7.npz")], StartOptions(), 0, CPU)
    assert pairs.prepare(0, range(2)).targets[1].any()


def test_what_is_wrong_with_a_slice_is_named(cmu):
    root, _ = cmu
    data, sfm = root / "datasets", root / "hloc"
    with pytest.raises(InputError, match="no such slice"):
        cmu_scene(data, sfm, 8)
    poses = data / "CMU" / "slice7" / "camera-poses" / "slice7.txt"
    text = poses.read_text()
    poses.write_text(text.replace("_c1_", "_c9_"))
    for path in (data / "CMU" / "slice7" / "query").iterdir():
        path.rename(path.with_name(path.name.replace("_c1_", "_c9_")))
    with pytest.raises(InputError, match="names no camera of c0, c1"):
        cmu_scene(data, sfm, 7)
    poses.write_text("img_00100_c1_14us.jpg 1 0 0\n")
    with pytest.raises(InputError, match="expected 'name qw"):
        cmu_scene(data, sfm, 7)
    poses.unlink()
    with pytest.raises(InputError, match="no camera poses"):
        cmu_scene(data, sfm, 7)


def test_maps_and_models_become_scenes_and_one_bad_one_costs_itself(room, tmp_path, capsys):
    output = tmp_path / "scenes"
    command = ["preprocess", "map", str(room.map_file), "--output", str(output)]
    assert main(command) == 0
    assert len(read_scene(output / "room.npz").names) == 16
    assert main([*command, str(tmp_path / "no.pixmap.h5")]) == 1
    assert "1 of 2 left out" in capsys.readouterr().err
    model = str(room.sequence.model)
    assert main(["preprocess", "colmap", model, "--output", str(output)]) == 0
    assert main(["preprocess", "cmu", "x", "--output", str(output)]) == 1
    assert main(["preprocess", "colmap", "--output", str(output)]) == 1
    assert main(["preprocess", "megadepth", "--root", str(tmp_path), "--output", str(output)]) == 1


def test_fine_tuning_on_a_map(room, scene_file, tmp_path, capsys):
    """The shipped weights, trained on for two steps on pairs of a user's own map."""
    command = [
        *("train", "--config", "config/train/finetune.yaml", "--device", "cpu"),
        *("--output", str(tmp_path / "run"), "--export", str(tmp_path / "tuned.pt")),
        *(f"pairs.scenes=[{scene_file}]", f"pairs.validation=[{scene_file}]"),
        *(f"pairs.images={room.sequence.images}", "pairs.samples=1", "pairs.size=128"),
        *("steps=2", "validation.batches=1", "pairs.points=64", "loss.iterations=2"),
    ]
    assert main(command) == 0, capsys.readouterr().err
    assert "held-out pairs" in capsys.readouterr().out
    assert (tmp_path / "tuned.pt").stat().st_size < 4_000_000
