"""Scene files for training: images with poses, points, who sees what, and pairwise overlap."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from pixloc_ros.errors import InputError
from pixloc_ros.mapping.sparse_model import CameraEntry, SparseModel


class SceneFileError(InputError):
    """A scene file that cannot be used, with the file and the reason in one line."""


@dataclass(frozen=True)
class SceneFile:
    """One scene.

    cameras and camera_index (R,), quaternion (R, 4) w x y z and translation (R, 3) of
    cam_from_map, points (P, 3): as in `SparseModel`. observed[i]: indices of the points that
    image i sees. overlap: (R, R) share of the points of image i that image j also sees.
    """

    names: tuple[str, ...]
    cameras: tuple[CameraEntry, ...]
    camera_index: np.ndarray
    quaternion: np.ndarray
    translation: np.ndarray
    points: np.ndarray
    observed: tuple[np.ndarray, ...]
    overlap: np.ndarray


def shared_points(observed: list[np.ndarray], points: int) -> np.ndarray:
    """(R, R) share of the points that image i observes that image j observes too."""
    rows = np.repeat(np.arange(len(observed)), [len(o) for o in observed])
    columns = np.concatenate(observed) if observed else np.zeros(0, int)
    sees = csr_matrix(
        (np.ones(len(rows), np.float32), (rows, columns)), shape=(len(observed), points)
    )
    sees.data[:] = 1
    both = (sees @ sees.T).toarray()
    return both / np.maximum(both.diagonal()[:, None], 1)


def scene_of_model(model: SparseModel) -> SceneFile:
    """The scene of a sparse model (COLMAP's or a map's)."""
    observed = [
        np.unique(model.observed[model.offsets[i] : model.offsets[i + 1]])
        for i in range(len(model.names))
    ]
    return SceneFile(
        model.names,
        model.cameras,
        model.camera_index,
        model.quaternion,
        model.translation,
        model.points,
        tuple(observed),
        shared_points(observed, len(model.points)).astype(np.float32),
    )


def write_scene(scene: SceneFile, path: str | os.PathLike[str]) -> None:
    """Write a scene file (.npz) atomically."""
    path = Path(path)
    lengths = [len(o) for o in scene.observed]
    widest = max((len(c.params) for c in scene.cameras), default=0)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                names=np.array(scene.names),
                camera_model=np.array([c.model for c in scene.cameras]),
                camera_size=np.array([(c.width, c.height) for c in scene.cameras]),
                camera_params=np.array(
                    [np.pad(c.params, (0, widest - len(c.params))) for c in scene.cameras]
                ),
                camera_count=np.array([len(c.params) for c in scene.cameras]),
                camera_index=scene.camera_index,
                quaternion=scene.quaternion,
                translation=scene.translation,
                points=scene.points,
                offsets=np.concatenate([[0], np.cumsum(lengths)]),
                observed=np.concatenate(scene.observed) if lengths else np.zeros(0, int),
                overlap=scene.overlap.astype(np.float16),
            )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_scene(path: str | os.PathLike[str]) -> SceneFile:
    """Read a scene file. Raises SceneFileError for a missing, truncated or foreign one."""
    path = Path(path)
    if not path.is_file():
        raise SceneFileError(f"{path}: no such scene file; write it with preprocess")
    try:
        with np.load(path, allow_pickle=False) as content:
            entry = {name: content[name] for name in content.files}
        cameras = tuple(
            CameraEntry(str(model), int(size[0]), int(size[1]), tuple(params[:count].tolist()))
            for model, size, params, count in zip(
                entry["camera_model"],
                entry["camera_size"],
                entry["camera_params"],
                entry["camera_count"],
                strict=True,
            )
        )
        offsets = entry["offsets"]
        observed = tuple(entry["observed"][a:b] for a, b in pairwise(offsets))
        scene = SceneFile(
            tuple(str(n) for n in entry["names"]),
            cameras,
            entry["camera_index"],
            entry["quaternion"],
            entry["translation"],
            entry["points"],
            observed,
            entry["overlap"].astype(np.float32),
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else "empty"
        raise SceneFileError(f"{path}: damaged, or no scene file ({first})") from None
    count = len(scene.names)
    sizes = {len(scene.camera_index), len(scene.quaternion), len(scene.translation), len(observed)}
    if sizes != {count} or scene.overlap.shape != (count, count) or not count:
        raise SceneFileError(f"{path}: damaged (its arrays differ in length)")
    numbers = (scene.quaternion, scene.translation, scene.points, scene.overlap)
    if not all(np.isfinite(a).all() for a in numbers):
        raise SceneFileError(f"{path}: damaged (numbers that are not finite)")
    return scene
