"""What the network says of the points that a reference sees."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pixloc_ros.errors import InputError
from pixloc_ros.features import (
    Extractor,
    FeatureNetwork,
    ImageError,
    ImagePyramid,
    PlaceModel,
    PyramidLevel,
    cut_patches,
    extract_pyramid,
    grey_camera,
    grey_values,
    read_image,
)
from pixloc_ros.geometry import Camera, FeatureTable, Pose
from pixloc_ros.mapping.sparse_model import CameraEntry


@dataclass(frozen=True)
class ReferenceView:
    """A reference: its image, its camera, its pose cam_from_map (w, x, y, z and metres), and the
    points (n, 3) it sees.
    """

    image: Path
    camera: CameraEntry
    quaternion: np.ndarray
    translation: np.ndarray
    points: np.ndarray

    def pose(self) -> Pose:
        return Pose.from_quaternion(self.quaternion, self.translation)


@dataclass(frozen=True)
class Sample:
    """kept: (n,) which of the points can be sampled. levels: features (k, C) and confidence (k,)
    of those, half precision. patches: (k, S, S) uint8, see `features.cut_patches`.
    descriptor: (D,) float32. place: (K,) float32, empty without a model.
    """

    kept: np.ndarray
    levels: tuple[tuple[np.ndarray, np.ndarray], ...]
    patches: np.ndarray
    descriptor: np.ndarray
    place: np.ndarray


def sample_points(
    pyramid: ImagePyramid, camera: Camera, cam_from_map: Pose, points: Tensor
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Features and confidences of points at every level of an image.

    points: (N, 3) map frame. Returns which points can be sampled at the finest level (N,), and
    for each level features (n, C), unit norm, and confidence (n,) of those. A point too near to
    the border of a coarser level has confidence zero there.
    """
    in_camera = cam_from_map.transform(points)
    sampled = []
    for maps in pyramid.levels:
        pixels, visible = maps.camera(camera).project(in_camera)
        table = FeatureTable(torch.cat([maps.features, maps.confidence[None]]))
        pixels = pixels.to(maps.features)
        rows = table.sample(pixels).cpu()
        sampled.append((rows, visible & table.inside(pixels).cpu()))
    kept = sampled[-1][1]
    return kept, [
        (normalize(rows[kept, :-1], dim=-1), rows[kept, -1] * inside[kept])
        for rows, inside in sampled
    ]


class Sampler:
    """Turns a `ReferenceView` into its `Sample`, or into the reason why that cannot be.

    pieces: a folder to keep samples in: what an interrupted run has sampled is not sampled
    again, and the answer is the file. places: how the map describes images.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        levels: Sequence[PyramidLevel],
        pieces: Path | None,
        places: PlaceModel | None,
    ) -> None:
        self._pieces, self._places = pieces, places
        self._extract: Callable[[np.ndarray], ImagePyramid]
        if network.device.type == "cpu":
            self._extract = Extractor(network, levels)  # in single precision, and twice as fast
        else:
            self._extract = partial(extract_pyramid, network, levels=levels)
        learned = "" if places is None else _digest(places.projection)
        self._made_by = f"{network.architecture} {network.weights_hash()} {levels} {learned}"

    @torch.no_grad()
    def __call__(self, view: ReferenceView) -> Sample | Path | InputError:
        try:
            if self._pieces is None:
                return self._sample(view)
            piece = self._pieces / f"{self._key(view)}.npz"
            try:
                read_sample(piece)  # of an interrupted run
            except InputError:
                _write(piece, self._sample(view))
            return piece
        except InputError as error:
            return error
        except OSError as error:
            where = error.filename or self._pieces or view.image
            return InputError(f"{where}: {error.strerror or error}")

    def _key(self, view: ReferenceView) -> str:
        try:
            status = view.image.stat()
        except OSError as error:
            raise ImageError(f"{view.image}: {error.strerror}") from None
        facts = (str(view.image), status.st_size, status.st_mtime_ns, view.camera)
        digest = hashlib.sha256(f"{self._made_by} {facts}".encode())
        for array in (view.quaternion, view.translation, view.points):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _sample(self, view: ReferenceView) -> Sample:
        image, entry = read_image(view.image), view.camera
        if (image.shape[1], image.shape[0]) != (entry.width, entry.height):
            raise ImageError(
                f"{view.image}: {image.shape[1]} x {image.shape[0]} pixels, "
                f"its camera has {entry.width} x {entry.height}"
            )
        pyramid = self._extract(image)
        points, camera, pose = torch.from_numpy(view.points), entry.camera(), view.pose()
        kept, levels = sample_points(pyramid, camera, pose, points)
        pixels, _ = grey_camera(camera).project(pose.transform(points[kept]))
        return Sample(
            kept.numpy(),
            tuple((features.half().numpy(), c.half().numpy()) for features, c in levels),
            cut_patches(grey_values(image), pixels).numpy(),
            pyramid.descriptor.cpu().numpy().astype(np.float32),
            np.zeros(0, np.float32)
            if self._places is None
            else self._places.describe(pyramid).numpy(),
        )


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def read_sample(piece: Path) -> Sample:
    """A sample from its file. Raises InputError for one that is missing or damaged."""
    try:
        with np.load(piece) as arrays:
            count = (len(arrays.files) - 4) // 2
            levels = tuple(
                (arrays[f"features{i}"], arrays[f"confidence{i}"]) for i in range(count)
            )
            names = ("patches", "descriptor", "place")
            return Sample(arrays["kept"], levels, *(arrays[name] for name in names))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{piece}: damaged ({error})") from None


def _write(piece: Path, sample: Sample) -> None:
    arrays: dict[str, Any] = {
        "kept": sample.kept,
        "patches": sample.patches,
        "descriptor": sample.descriptor,
        "place": sample.place,
    }
    for number, (features, confidence) in enumerate(sample.levels):
        arrays[f"features{number}"], arrays[f"confidence{number}"] = features, confidence
    temporary = piece.with_suffix(f".{os.getpid()}.partial")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, piece)
    finally:
        temporary.unlink(missing_ok=True)


def _unpack(packed: bytes) -> Sampler:
    network, device, levels, pieces, places = pickle.loads(packed)
    return Sampler(network.to(device), levels, pieces, places)


def sampler_of(
    network: FeatureNetwork,
    levels: Sequence[PyramidLevel],
    pieces: Path | None,
    places: PlaceModel | None,
) -> Callable[[], Sampler]:
    """Makes the same sampler in any process."""
    device = network.device.type
    packed = pickle.dumps((network.cpu(), device, tuple(levels), pieces, places))
    network.to(device)
    return partial(_unpack, packed)
