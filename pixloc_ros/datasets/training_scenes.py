"""Scene files from the data sets that localizers are trained on, in the original's layout.

MegaDepth: <root>/megadepth/Undistorted_SfM/<scene>/{images/, sparse/}
CMU:       <root>/CMU/slice<N>/{database/, query/, camera-poses/*.txt}, <root>/CMU/intrinsics.txt
           and <sfm>/CMU/slice<N>/sfm_superpoint+superglue/model
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pixloc_ros.datasets.pair_files import SceneFile, scene_of_model
from pixloc_ros.datasets.text import ListError, data_lines, finite_numbers
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Pose
from pixloc_ros.mapping import read_colmap
from pixloc_ros.mapping.sparse_model import CameraEntry

MIN_SHARED = 50
"""Fewest points that a pair must share; below, a share of them says little."""
MIN_SIDE = 480
MAX_ROLL_DEG = 45.0
MAX_BASELINE, MAX_TO_REFERENCE, MAX_TURN_DEG = 7.0, 1.0, 30.0


def _enough(scene: SceneFile) -> SceneFile:
    """The scene without the overlap of pairs that share too few points."""
    counts = np.array([len(o) for o in scene.observed])
    shared = scene.overlap * counts[:, None]
    return replace(scene, overlap=np.where(shared >= MIN_SHARED - 0.5, scene.overlap, 0.0))


def megadepth_scene(root: Path, scene: str) -> SceneFile:
    """A MegaDepth scene; image names start from <root>/megadepth/Undistorted_SfM.

    Small images and pairs rolled against each other are not paired. Raises InputError.
    """
    folder = root / "megadepth" / "Undistorted_SfM" / scene
    if not folder.is_dir():
        raise InputError(f"{folder}: no such scene")
    found = _enough(scene_of_model(read_colmap(folder / "sparse")))
    overlap = found.overlap.copy()
    small = [min(c.width, c.height) < MIN_SIDE for c in found.cameras]
    excluded = np.array([small[k] for k in found.camera_index])
    overlap[excluded] = 0
    overlap[:, excluded] = 0
    # the roll between two images: the turn about the optical axis that remains
    rotation = Pose.from_quaternion(found.quaternion, found.translation).rotation.numpy()
    down = np.median(rotation[:, 1], axis=0)  # where most images have their lower edge
    inside = rotation @ (down / max(np.linalg.norm(down), 1e-9))
    roll = np.arctan2(inside[:, 0], inside[:, 1])
    apart = np.abs((roll[:, None] - roll + math.pi) % (2 * math.pi) - math.pi)
    overlap[apart > math.radians(MAX_ROLL_DEG)] = 0
    names = tuple(f"{scene}/images/{name}" for name in found.names)
    return replace(found, names=names, overlap=overlap)


def _cmu_cameras(path: Path) -> dict[str, CameraEntry]:
    cameras = {}
    for where, entries in data_lines(path):
        if len(entries) < 5:
            raise ListError(f"{where}: expected 'name MODEL w h params...'")
        numbers = finite_numbers(where, entries[2:])
        entry = CameraEntry(entries[1], int(numbers[0]), int(numbers[1]), tuple(numbers[2:]))
        entry.camera()  # refuses what is no camera
        cameras[entries[0]] = entry
    return cameras


def _cmu_queries(folder: Path) -> dict[str, Pose]:
    """cam_from_map by image name; the files hold `name qw qx qy qz` and the camera's centre."""
    poses = {}
    for path in sorted(folder.glob("*.txt")):
        for where, entries in data_lines(path):
            numbers = finite_numbers(where, entries[1:])
            if len(numbers) != 7 or np.linalg.norm(numbers[:4]) < 1e-6:
                raise ListError(f"{where}: expected 'name qw qx qy qz cx cy cz'")
            turn = Pose.from_quaternion(numbers[:4], np.zeros(3))
            poses[entries[0]] = Pose.from_quaternion(
                numbers[:4], -(turn.rotation.numpy() @ numbers[4:])
            )
    if not poses:
        raise InputError(f"{folder}: no camera poses (*.txt)")
    return poses


def cmu_scene(root: Path, sfm: Path, number: int) -> SceneFile:
    """A slice of Extended CMU Seasons; image names start from <root>/CMU.

    A query counts as seeing what the nearest reference (within 1 m and 30 degrees) sees; it is
    aligned with references within 7 m and never serves as one. Raises InputError.
    """
    folder = root / "CMU" / f"slice{number}"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such slice")
    model = sfm / "CMU" / f"slice{number}" / "sfm_superpoint+superglue" / "model"
    references = scene_of_model(read_colmap(model))
    cameras = _cmu_cameras(root / "CMU" / "intrinsics.txt")
    order = list(cameras)
    names, index, lists = [], [], list(references.observed)
    posed = Pose.from_quaternion(references.quaternion, references.translation)
    poses = [posed[k] for k in range(len(posed))]
    shares: list[np.ndarray] = []
    for name in references.names:
        names.append(f"slice{number}/database/{Path(name).name}")
        index.append(_camera_of(name, order, model))
    centres = np.stack([p.inverse().translation.numpy() for p in poses])
    count = len(poses)
    for name, pose in _cmu_queries(folder / "camera-poses").items():
        if not (folder / "query" / name).is_file():
            continue  # the lists name images of the database too
        away = np.linalg.norm(centres - pose.inverse().translation.numpy(), axis=1)
        _, turn = Pose.stack(poses[:count]).distance(pose[None].expand(count))
        away[np.degrees(turn.numpy()) > MAX_TURN_DEG] = np.inf
        nearest = int(away.argmin())
        if away[nearest] > MAX_TO_REFERENCE:
            continue
        names.append(f"slice{number}/query/{name}")
        index.append(_camera_of(name, order, folder))
        poses.append(pose)
        lists.append(references.observed[nearest])
        shares.append(references.overlap[:, nearest])
    total = len(poses)
    if total == count:
        raise InputError(f"{folder}: no query image within {MAX_TO_REFERENCE:g} m of a reference")
    overlap = np.zeros((total, total), np.float32)
    overlap[:count, :count] = references.overlap
    overlap[:count, count:] = np.stack(shares, 1)
    everywhere = np.stack([p.inverse().translation.numpy() for p in poses])
    baseline = np.linalg.norm(everywhere[:, None] - everywhere, axis=-1)
    overlap[baseline > MAX_BASELINE] = 0
    stacked = Pose.stack(poses)
    return _enough(
        SceneFile(
            tuple(names),
            tuple(cameras.values()),
            np.array(index, np.int32),
            stacked.quaternion().numpy(),
            stacked.translation.numpy(),
            references.points,
            tuple(lists),
            overlap,
        )
    )


def _camera_of(name: str, cameras: Sequence[str], where: Path) -> int:
    """CMU's images carry the name of their camera: img_00122_c0_1303398475046031us.jpg."""
    found = [k for k, camera in enumerate(cameras) if camera in Path(name).name.split("_")]
    if len(found) != 1:
        raise InputError(f"{where}: the image name {name} names no camera of {', '.join(cameras)}")
    return found[0]
