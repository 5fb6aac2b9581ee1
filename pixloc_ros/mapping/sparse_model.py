"""The sparse model a map is built from: posed references, points and who sees what."""

from __future__ import annotations

import logging
import os
import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pycolmap
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, CameraError, Pose
from pixloc_ros.left_out import LeftOut

log = logging.getLogger(__name__)

FARTHEST = 1e9
"""Metres from the origin, from which on a point or an image is no real one."""

# how many parameters each of COLMAP's camera models has, by its number
_PARAMETERS = {
    int(model): len(pycolmap.Camera.create_from_model_name(1, name, 1.0, 1, 1).params)
    for name, model in pycolmap.CameraModelId.__members__.items()
    if name != "INVALID"
}


class ModelError(InputError):
    """A sparse model that no map can be built from, with the reason in one line."""


@dataclass(frozen=True)
class CameraEntry:
    """Intrinsics as COLMAP writes them."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]

    def camera(self) -> Camera:
        return Camera.from_colmap(self.model, self.width, self.height, self.params)


@dataclass(frozen=True)
class SparseModel:
    """R references, P points, M observations grouped by reference.

    names: R image names relative to the image folder. camera_index: (R,) into cameras.
    quaternion: (R, 4) w, x, y, z and translation: (R, 3) of cam_from_map, metres.
    points: (P, 3) map frame, metres. track_length: (P,) references that see each point.
    offsets: (R + 1,) and observed: (M,) indices of points: reference r sees
    observed[offsets[r]:offsets[r + 1]].
    """

    cameras: tuple[CameraEntry, ...]
    names: tuple[str, ...]
    camera_index: np.ndarray
    quaternion: np.ndarray
    translation: np.ndarray
    points: np.ndarray
    track_length: np.ndarray
    offsets: np.ndarray
    observed: np.ndarray

    def pose(self, reference: int) -> Pose:
        """cam_from_map of a reference, float64."""
        return Pose.from_quaternion(self.quaternion[reference], self.translation[reference])


def read_colmap(
    model: str | os.PathLike[str] | pycolmap.Reconstruction, left_out: LeftOut | None = None
) -> SparseModel:
    """Read a COLMAP model (binary or text folder, or a loaded reconstruction).

    Points and images with impossible numbers are left out and counted, unless they are half
    of them. Raises ModelError when it is missing, damaged, or has no images or points.
    """
    counted = LeftOut("part") if left_out is None else left_out
    try:
        made = _read(model, counted)
    except UnicodeDecodeError:
        raise ModelError(f"{model}: a name of an image is not UTF-8") from None
    except (KeyError, IndexError) as error:
        raise ModelError(f"{model}: damaged COLMAP model ({error})") from None
    if counted and left_out is None:
        log.warning("COLMAP model: %s", counted.as_text())
    return made


def _read(
    model: str | os.PathLike[str] | pycolmap.Reconstruction, left_out: LeftOut
) -> SparseModel:
    if isinstance(model, pycolmap.Reconstruction):
        where, reconstruction = "the reconstruction", model
    else:
        path = Path(model)
        where, reconstruction = str(path), _load(path)
    if reconstruction.num_points3D() == 0:
        raise ModelError(f"{where}: the COLMAP model has no 3D points; triangulate it first")
    posed = sorted(
        (image for image in reconstruction.images.values() if image.has_pose),
        key=lambda image: image.name,
    )
    if not posed:
        raise ModelError(f"{where}: the COLMAP model has no image with a pose")
    images = [image for image in posed if _possible(image.cam_from_world())]
    point_ids = np.array(sorted(reconstruction.points3D), np.int64)
    points = np.array([reconstruction.points3D[i].xyz for i in point_ids.tolist()], np.float64)
    usable = (np.abs(points) < FARTHEST).all(1)  # which a NaN is not
    for what, kept, total in (
        ("image with an impossible pose", len(images), len(posed)),
        ("point with impossible coordinates", int(usable.sum()), len(points)),
    ):
        if kept < total:
            left_out.add(what, "", total - kept)
        if 2 * kept < total:
            raise ModelError(f"{where}: {left_out.as_text()}, of {total}")
    # the reconstruction keeps its numbers, observations of points that are left out go
    point_ids, points = point_ids[usable], points[usable]
    camera_ids = sorted({image.camera_id for image in images})
    cameras = tuple(_camera_entry(reconstruction.cameras[i], where) for i in camera_ids)
    quaternion, translation, observed = [], [], []
    for image in images:
        pose = image.cam_from_world()
        quaternion.append(np.roll(pose.rotation.quat, 1))  # pycolmap stores x, y, z, w
        translation.append(pose.translation)
        seen = np.unique([p.point3D_id for p in image.get_observation_points2D()])
        seen = seen.astype(np.int64)
        observed.append(np.searchsorted(point_ids, seen[np.isin(seen, point_ids)]))
    if len({image.name for image in images}) != len(images):
        raise ModelError(f"{where}: two images of the COLMAP model have the same name")
    flat = np.concatenate(observed)
    return SparseModel(
        cameras=cameras,
        names=tuple(image.name for image in images),
        camera_index=np.array([camera_ids.index(image.camera_id) for image in images], np.int32),
        quaternion=np.array(quaternion),
        translation=np.array(translation),
        points=points,
        track_length=np.bincount(flat, minlength=len(points)).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(o) for o in observed])]).astype(np.int64),
        observed=flat.astype(np.int32),
    )


def _possible(cam_from_world: pycolmap.Rigid3d) -> bool:
    turn, shift = np.asarray(cam_from_world.rotation.quat), np.asarray(cam_from_world.translation)
    near = bool((np.abs(shift) < FARTHEST).all())  # which a NaN is not
    return near and bool(abs(np.linalg.norm(turn) - 1) < 1e-3)


def _load(path: Path) -> pycolmap.Reconstruction:
    if not path.is_dir():
        raise ModelError(f"{path}: no such folder with a COLMAP model")
    names = ("cameras", "images", "points3D")
    lacking = {
        suffix: [n + suffix for n in names if not (path / (n + suffix)).is_file()]
        for suffix in (".bin", ".txt")
    }
    suffix = min(lacking, key=lambda kind: len(lacking[kind]))
    if len(lacking[suffix]) == len(names):
        below = sorted(p.parent.name for p in path.glob("*/cameras.*"))
        hint = f"; there is one in {path / below[0]}" if below else ""
        raise ModelError(
            f"{path}: no COLMAP model (cameras, images, points3D as .bin or .txt){hint}"
        )
    if lacking[suffix]:
        raise ModelError(f"{path}: the COLMAP model lacks {lacking[suffix][0]}")
    if suffix == ".bin":
        # pycolmap believes the counts of a truncated file, takes all memory for them, or
        # reads on with zeros
        _walk(path / "cameras.bin", _camera_size)
        _walk(path / "images.bin", _image_size)
        _walk(path / "points3D.bin", _point_size)
    else:
        _require_known_models(path / "cameras.txt")
    try:
        model = pycolmap.Reconstruction(str(path))
    except Exception as error:  # pycolmap raises many types for damaged files
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "unreadable"
        raise ModelError(f"{path}: damaged COLMAP model ({reason})") from None
    if suffix == ".txt":
        _require_counts(path, model)
    return model


def _camera_size(data: bytes, at: int) -> int:
    """Bytes of a camera record: id, model, size, parameters."""
    (model,) = struct.unpack_from("<i", data, at + 4)
    if model not in _PARAMETERS:
        raise _UnknownModel(f"camera model number {model} is not supported")
    return 24 + 8 * _PARAMETERS[model]


def _image_size(data: bytes, at: int) -> int:
    """Bytes of an image record: id, pose, camera, name, keypoints."""
    name_end = data.index(b"\0", at + 64)
    (keypoints,) = struct.unpack_from("<Q", data, name_end + 1)
    return name_end + 9 + 24 * keypoints - at


def _point_size(data: bytes, at: int) -> int:
    """Bytes of a point record: id, position, colour, error, track."""
    (track,) = struct.unpack_from("<Q", data, at + 43)
    return 51 + 8 * track


class _UnknownModel(Exception):
    """A camera model whose records have an unknown length."""


def _require_known_models(path: Path) -> None:
    """Raise ModelError for a camera of a text model that pycolmap does not know."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: damaged COLMAP model ({error})") from None
    for number, line in enumerate(lines, 1):
        words = line.split()
        given = words[1] if len(words) > 1 and not words[0].startswith("#") else ""
        if given and given not in pycolmap.CameraModelId.__members__:
            raise ModelError(f"{path}:{number}: camera model {given!r} is not supported")


def _require_counts(path: Path, model: pycolmap.Reconstruction) -> None:
    """Raise ModelError where a text model holds less than its headers say: it was cut."""
    counts = {
        "cameras": len(model.cameras),
        "images": len(model.images),
        "points3D": len(model.points3D),
    }
    for name, count in counts.items():
        with open(path / f"{name}.txt", encoding="utf-8", errors="replace") as file:
            header = "".join(line for line, _ in zip(file, range(5), strict=False))
        found = re.search(r"^# Number of \w+: (\d+)", header, re.MULTILINE)
        if found is None:
            continue  # not by COLMAP, which ends every line
        ended = (path / f"{name}.txt").read_bytes().endswith(b"\n")
        if int(found[1]) != count or not ended:
            raise ModelError(
                f"{path / name}.txt: damaged COLMAP model (truncated: {count} of {found[1]})"
            )


def _walk(path: Path, record_size: Callable[[bytes, int], int]) -> None:
    """Raise ModelError unless a binary file of counted records ends where the last one does."""
    data = path.read_bytes()
    try:
        (count,) = struct.unpack_from("<Q", data)
        at = 8
        for _ in range(count):
            at += record_size(data, at)
    except (struct.error, ValueError, OverflowError):
        at = -1
    except _UnknownModel as error:
        raise ModelError(f"{path}: {error}") from None
    if at != len(data):
        raise ModelError(f"{path}: damaged COLMAP model (truncated, {len(data)} bytes)")


def _camera_entry(camera: pycolmap.Camera, where: str) -> CameraEntry:
    entry = CameraEntry(
        camera.model.name, camera.width, camera.height, tuple(map(float, camera.params))
    )
    try:
        entry.camera()
    except CameraError as error:
        raise ModelError(f"{where}: camera {camera.camera_id}: {error}") from None
    return entry


def subset(model: SparseModel, references: np.ndarray, points: np.ndarray) -> SparseModel:
    """What is left of a model: references (R,) and points (P,) are kept where True.

    Track lengths are those in what is left; points that nobody sees any more go, too.
    """
    reference = np.repeat(np.arange(len(model.names)), np.diff(model.offsets))
    kept = references[reference] & points[model.observed]
    tracks = np.bincount(model.observed[kept], minlength=len(model.points))
    seen = tracks > 0
    renumber = np.cumsum(seen) - 1
    counts = np.bincount(reference[kept], minlength=len(model.names))[references]
    return SparseModel(
        cameras=model.cameras,
        names=tuple(name for name, here in zip(model.names, references, strict=True) if here),
        camera_index=model.camera_index[references],
        quaternion=model.quaternion[references],
        translation=model.translation[references],
        points=model.points[seen],
        track_length=tracks[seen].astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        observed=renumber[model.observed[kept]].astype(np.int32),
    )


def keep_long_tracks(model: SparseModel, min_length: int) -> SparseModel:
    """Drop points that fewer than `min_length` references see, and references that see none."""
    kept = model.track_length >= min_length
    if not kept.any():
        raise ModelError(f"no point is seen by {min_length} references or more")
    reference = np.repeat(np.arange(len(model.names)), np.diff(model.offsets))
    seeing = np.bincount(reference[kept[model.observed]], minlength=len(model.names)) > 0
    if not seeing.all():
        log.warning(
            "left out %d of %d images: they see no point that %d images see (the first: %s)",
            np.sum(~seeing),
            len(seeing),
            min_length,
            model.names[int(np.argmin(seeing))],
        )
    return subset(model, seeing, kept)


def in_order_of_sight(model: SparseModel) -> SparseModel:
    """The same model, its points in the order in which references, one after the other, first
    see them: what is seen together then lies together.
    """
    points, first = np.unique(model.observed, return_index=True)
    order = points[np.argsort(first, kind="stable")]
    renumber = np.empty(len(model.points), np.int32)
    renumber[order] = np.arange(len(order))
    reference = np.repeat(np.arange(len(model.names)), np.diff(model.offsets))
    observed = renumber[model.observed]
    return replace(
        model,
        points=model.points[order],
        track_length=model.track_length[order],
        # of each reference ascending, as they were
        observed=observed[np.lexsort((observed, reference))],
    )


def write_colmap(model: SparseModel, folder: str | os.PathLike[str]) -> None:
    """Write a model as COLMAP's binary files, its observations where the points project.

    Raises ModelError where the folder is there already, or its parent is not.
    """
    folder = Path(folder)
    if folder.exists() or not folder.parent.is_dir():
        reason = "is there already" if folder.exists() else f"{folder.parent} is no folder"
        raise ModelError(f"{folder}: {reason}; a COLMAP model is written to a new folder")
    made = pycolmap.Reconstruction()
    for number, entry in enumerate(model.cameras, 1):
        camera = pycolmap.Camera(
            model=entry.model,
            width=entry.width,
            height=entry.height,
            params=list(entry.params),
            camera_id=number,
        )
        made.add_camera_with_trivial_rig(camera)
    tracks: dict[int, list[pycolmap.TrackElement]] = {}
    for number, name in enumerate(model.names):
        seen = model.observed[model.offsets[number] : model.offsets[number + 1]]
        pose, which = model.pose(number), int(model.camera_index[number])
        inside = pose.transform(torch.from_numpy(model.points[seen]))
        pixels, _ = model.cameras[which].camera().project(inside)
        image = pycolmap.Image(
            name,
            pycolmap.Point2DList([pycolmap.Point2D(p) for p in pixels.numpy()]),
            camera_id=which + 1,
            image_id=number + 1,
        )
        w, x, y, z = model.quaternion[number]
        turn = pycolmap.Rotation3d(np.array([x, y, z, w]))
        made.add_image_with_trivial_frame(image, pycolmap.Rigid3d(turn, model.translation[number]))
        for place, point in enumerate(seen.tolist()):
            tracks.setdefault(point, []).append(pycolmap.TrackElement(number + 1, place))
    for point, elements in sorted(tracks.items()):
        made.add_point3D(model.points[point], pycolmap.Track(elements))
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        made.write_binary(str(partial))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
