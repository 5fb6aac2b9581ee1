"""Reading a map file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from pixloc_ros.features import PATCH_SIDE, FeatureNetwork, ImagePyramid, PlaceModel
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.mapping.calibration import read_calibration
from pixloc_ros.mapping.hdf5_rows import Names, read_ranges, read_rows
from pixloc_ros.mapping.schema import FORMAT, PLACES, VERSION, MapError, MapHeader, checksum
from pixloc_ros.mapping.sessions import Sessions
from pixloc_ros.mapping.sparse_model import CameraEntry, SparseModel

BLOCK = 2**20
"""Rows that are read at a time where all are looked at."""

AT_ONCE = 2**22
"""Points and observations up to which a map is looked at whole when it is opened; of larger
ones each part is when it is read."""


@dataclass(frozen=True)
class ReferenceFeatures:
    """What one reference remembers of its points.

    points: (n,) indices into the map's points. xyz: (n, 3) float64, map frame, metres.
    features[i]: (n, C_i) half, unit norm; confidence[i]: (n,) half; i as the map's levels.
    patches: (n, S, S) uint8, grey values around the points; None in maps without them.
    """

    points: Tensor
    xyz: Tensor
    features: tuple[Tensor, ...]
    confidence: tuple[Tensor, ...]
    patches: Tensor | None = None

    def only(self, kept: Tensor) -> ReferenceFeatures:
        """What is remembered of some points, (n,) bool."""
        return ReferenceFeatures(
            self.points[kept],
            self.xyz[kept],
            tuple(features[kept] for features in self.features),
            tuple(confidence[kept] for confidence in self.confidence),
            None if self.patches is None else self.patches[kept],
        )


@dataclass(frozen=True)
class ResidualStatistics:
    """Quantiles (Q,) of squared residuals of one level, measured between the references.

    matching: of the same point seen by two references; unrelated: of two points.
    """

    matching: np.ndarray
    unrelated: np.ndarray


class PixMap:
    """An open map. What is known of each reference lies in memory, about 100 bytes; points,
    observations, descriptors and features stay in the file until they are asked for.

    Use as a context manager, or `close` it. Raises MapError for a missing, truncated or
    foreign file, and where a damaged part is read.

    names: of the references. camera_index: (R,). quaternion: (R, 4) w, x, y, z and
    translation: (R, 3), cam_from_map. offsets: (R + 1,): reference r has the observations
    offsets[r] to offsets[r + 1]. provenance: how the map came about, one entry a step.
    places: how it describes images, None where by the network's descriptor alone.
    calibration: factors on the standard deviations of translation and rotation that its own
    references say, None where they were not asked. sessions: when the references were taken.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = _open(self.path)
        try:
            self._read()
        except MapError:
            self._file.close()
            raise
        except (KeyError, OSError, ValueError, TypeError, AttributeError) as error:
            self._file.close()
            raise MapError(f"{self.path}: damaged map ({_line(error)})") from None

    def _read(self) -> None:
        file = self._file
        self.header = MapHeader.from_json(str(file.attrs["header"]))
        entries = [json.loads(text) for text in file["cameras"].asstr()[:]]
        self.camera_entries = tuple(
            CameraEntry(e["model"], e["width"], e["height"], tuple(e["params"])) for e in entries
        )
        self.names = Names(file["references/name"][:])
        self.camera_index = file["references/camera"][:]
        self.quaternion = file["references/quaternion"][:]
        self.translation = file["references/translation"][:]
        self.sessions = Sessions.read(file, len(self.names))
        self.offsets = file["observations/offsets"][:]
        self._observed, self._xyz = file["observations/point"], file["points/xyz"]
        self._patch = file.get("observations/patch")
        self.places = self._read_places()
        self._check_structure()
        self.cameras = tuple(entry.camera() for entry in self.camera_entries)
        levels = range(len(self.header.levels))
        self.statistics = tuple(
            ResidualStatistics(file[f"levels/{i}/matching"][:], file[f"levels/{i}/unrelated"][:])
            for i in levels
        )
        self._levels = tuple(
            (file[f"levels/{i}/features"], file[f"levels/{i}/confidence"]) for i in levels
        )
        self.calibration = read_calibration(file)
        told = file.attrs.get("provenance", "[]")
        self.provenance = tuple(dict(step) for step in json.loads(told))
        if self.observation_count + self.point_count <= AT_ONCE:
            self._check_content()

    def _read_places(self) -> PlaceModel | None:
        if "references/place" not in self._file:
            return None
        parts = [torch.from_numpy(self._file[f"places/{name}"][:]) for name in PLACES]
        self._require_finite(*(part.numpy() for part in parts))
        model = PlaceModel(*parts)
        rows, columns = model.projection.shape
        channels, anchors = model.anchors.shape
        fits = {
            "centre": model.centre.shape == (channels,),
            "mean": model.mean.shape == (rows,) == (self.descriptor_width + anchors,),
            "place": self._file["references/place"].shape == (len(self.names), columns),
        }
        wrong = next((name for name, right in fits.items() if not right), None)
        if wrong:
            raise MapError(f"{self.path}: damaged map (shape of {wrong})")
        return model

    def _check_structure(self) -> None:
        """What lies in memory, and the sizes of the rest."""
        count, observations = len(self.names), len(self._observed)
        descriptors = self._file["references/descriptor"]
        lengths = {
            "camera": len(self.camera_index),
            "quaternion": len(self.quaternion),
            "translation": len(self.translation),
            "descriptor": len(descriptors),
            "offsets": len(self.offsets) - 1,
        }
        wrong = next((name for name, length in lengths.items() if length != count), None)
        if wrong or count == 0:
            raise MapError(f"{self.path}: damaged map ({wrong or 'names'} of {count} references)")
        side = (observations, PATCH_SIDE, PATCH_SIDE)
        if self._patch is not None and self._patch.shape != side:
            raise MapError(f"{self.path}: damaged map (patches of shape {self._patch.shape})")
        steps = np.diff(self.offsets)
        if self.offsets[0] != 0 or self.offsets[-1] != observations or (steps < 0).any():
            raise MapError(f"{self.path}: damaged map (observation offsets)")
        if not 0 <= self.camera_index.min() <= self.camera_index.max() < len(self.camera_entries):
            raise MapError(f"{self.path}: damaged map (a reference without camera)")
        shapes = {
            "points": self._xyz.ndim == 2 and self._xyz.shape[1] == 3,
            "quaternions": self.quaternion.shape == (count, 4),
            "translations": self.translation.shape == (count, 3),
            "descriptors": descriptors.ndim == 2,
            "levels": len(self.header.levels) > 0,
        }
        wrong = next((name for name, right in shapes.items() if not right), None)
        if wrong:
            raise MapError(f"{self.path}: damaged map (shape of the {wrong})")
        self._require_finite(self.quaternion, self.translation)
        for i in range(len(self.header.levels)):
            for name in ("features", "confidence"):
                if len(self._file[f"levels/{i}/{name}"]) != observations:
                    raise MapError(f"{self.path}: damaged map ({name} of level {i})")

    def _require_finite(self, *arrays: np.ndarray) -> None:
        if not all(np.isfinite(array).all() for array in arrays):
            raise MapError(f"{self.path}: damaged map (numbers that are not finite)")

    def _require_points(self, observed: np.ndarray) -> None:
        if len(observed) and not 0 <= observed.min() <= observed.max() < self.point_count:
            raise MapError(f"{self.path}: damaged map (an observation of no point)")

    def _check_content(self) -> None:
        """Every point, observation and descriptor, a block at a time."""
        for dataset in (self._xyz, self._file["references/descriptor"], self._described):
            for rows in _blocks(len(dataset)):
                self._require_finite(dataset[rows])
        for rows in _blocks(self.observation_count):
            self._require_points(self._observed[rows])

    def __len__(self) -> int:
        """Number of references."""
        return len(self.names)

    @property
    def point_count(self) -> int:
        return len(self._xyz)

    @property
    def observation_count(self) -> int:
        return int(self.offsets[-1])

    @property
    def observation_counts(self) -> np.ndarray:
        """Observations of each reference, (R,)."""
        return np.diff(self.offsets)

    def observation_counts_of(self, points: np.ndarray) -> np.ndarray:
        """Observations that each reference has of some points (P,) bool, (R,)."""
        before = np.concatenate([[0], np.cumsum(points[self._observed[:]])])
        return np.diff(before[self.offsets])

    @property
    def checksum(self) -> str:
        """Of the content, as it is written in the file; `verify` compares it."""
        return str(self._file.attrs.get("checksum", ""))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(int(features.shape[1]) for features, _ in self._levels)

    @property
    def has_patches(self) -> bool:
        """Whether observations have grey values around them."""
        return self._patch is not None

    @property
    def descriptor_width(self) -> int:
        return int(self._file["references/descriptor"].shape[1])

    def camera(self, reference: int) -> Camera:
        """Intrinsics of a reference."""
        return self.cameras[int(self.camera_index[reference])]

    def pose(self, reference: int) -> Pose:
        """cam_from_map of a reference, float64."""
        return Pose.from_quaternion(self.quaternion[reference], self.translation[reference])

    def centres(self) -> np.ndarray:
        """Where the cameras of all references stand, (R, 3), map frame."""
        return np.concatenate(
            [
                Pose.from_quaternion(self.quaternion[rows], self.translation[rows])
                .inverse()
                .translation.numpy()
                for rows in _blocks(len(self))
            ]
        )

    @cached_property
    def poses(self) -> Pose:
        """cam_from_map of all references, (R,) float64."""
        return Pose.from_quaternion(self.quaternion, self.translation)

    @cached_property
    def model(self) -> SparseModel:
        """The whole structure, in memory from then on."""
        return SparseModel(
            cameras=self.camera_entries,
            names=tuple(self.names),
            camera_index=self.camera_index,
            quaternion=self.quaternion,
            translation=self.translation,
            points=self._xyz[:],
            track_length=self._file["points/track_length"][:],
            offsets=self.offsets,
            observed=self._observed[:],
        )

    @cached_property
    def points(self) -> Tensor:
        """All points (P, 3), float64, in memory from then on."""
        return torch.from_numpy(self.model.points)

    def xyz(self, points: np.ndarray) -> np.ndarray:
        """Some points (n,) of the map as (n, 3) float64, from the file."""
        wanted, place = np.unique(points, return_inverse=True)
        self._require_points(wanted)
        found = read_rows(self._xyz, wanted)
        self._require_finite(found)
        return found[place]

    def some_points(self, most: int) -> np.ndarray:
        """Up to about `most` points (n, 3) from all over the map, from the file."""
        if self.point_count <= most:
            return self._xyz[:]
        size = 256
        begins = np.linspace(0, self.point_count - size, max(most // size, 1)).astype(np.int64)
        return np.concatenate([self._xyz[begin : begin + size] for begin in begins])

    def part(self, references: np.ndarray) -> SparseModel:
        """The structure of some references (n,), which ascend, and of the points they see."""
        begins, ends = self.offsets[references], self.offsets[references + 1]
        seen = read_ranges(self._observed, begins, ends)
        points, observed = np.unique(seen, return_inverse=True)
        return SparseModel(
            cameras=self.camera_entries,
            names=tuple(self.names[i] for i in references.tolist()),
            camera_index=self.camera_index[references],
            quaternion=self.quaternion[references],
            translation=self.translation[references],
            points=self.xyz(points),
            track_length=np.bincount(observed, minlength=len(points)).astype(np.int32),
            offsets=np.concatenate([[0], np.cumsum(ends - begins)]),
            observed=observed.astype(np.int32),
        )

    def descriptor_rows(self, references: np.ndarray) -> np.ndarray:
        """Descriptors (n, D) float32 of some references, which ascend, from the file."""
        return read_rows(self._file["references/descriptor"], references)

    @property
    def _described(self) -> h5py.Dataset:
        """What references are searched by."""
        name = "references/descriptor" if self.places is None else "references/place"
        return self._file[name]

    def describe(self, pyramid: ImagePyramid) -> Tensor:
        """What an image is searched by, (K,), as the map describes its references."""
        if self.places is None:
            return pyramid.descriptor.cpu()
        return self.places.describe(pyramid)

    def described_rows(self, references: np.ndarray) -> np.ndarray:
        """Descriptions (n, K) float32 of some references, which ascend, from the file."""
        return read_rows(self._described, references)

    def descriptor_index(self) -> tuple[np.ndarray, np.ndarray] | None:
        """As `approximate.make_index` made it, where the map has one."""
        if "references/index" not in self._file:
            return None
        return self._file["references/index"][:], self._file["references/descriptor_mean"][:]

    def require(self, network: FeatureNetwork) -> None:
        """Raise MapError unless this network filled the map."""
        self.require_weights(network.architecture, network.weights_hash())

    def require_weights(self, architecture: str, weights_hash: str) -> None:
        """Raise MapError unless a network of this kind with these weights filled the map."""
        if architecture != self.header.architecture:
            raise MapError(
                f"{self.path}: filled by a {self.header.architecture} network, "
                f"not by {architecture}; name its weights or rebuild the map"
            )
        if weights_hash != self.header.weights_hash:
            raise MapError(
                f"{self.path}: filled by other {architecture} weights "
                f"({self.header.weights_hash[:12]}, loaded {weights_hash[:12]}); rebuild the map"
            )

    def reference(self, index: int) -> ReferenceFeatures:
        """Points and features of one reference, from the file."""
        rows = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        try:
            points = self._observed[rows].astype(np.int64)
            return ReferenceFeatures(
                torch.from_numpy(points),
                torch.from_numpy(self.xyz(points)),
                tuple(torch.from_numpy(features[rows]) for features, _ in self._levels),
                tuple(torch.from_numpy(confidence[rows]) for _, confidence in self._levels),
                None if self._patch is None else torch.from_numpy(self._patch[rows]),
            )
        except OSError as error:
            raise MapError(
                f"{self.path}: reading reference {index} failed ({_line(error)})"
            ) from None

    def verify(self) -> None:
        """Read the whole file and compare its checksum. Raises MapError when it differs."""
        try:
            self._check_content()
            found = checksum(self._file)
        except (OSError, KeyError, ValueError) as error:
            if isinstance(error, MapError):
                raise
            raise MapError(f"{self.path}: damaged map ({_line(error)})") from None
        if found != self._file.attrs.get("checksum"):
            raise MapError(f"{self.path}: damaged map (the checksum does not match the content)")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> PixMap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(a, b) for a, b in pairwise([*range(0, rows, BLOCK), rows]))


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise MapError(f"{path}: no such map file")
    try:
        file = h5py.File(path, "r")
    except OSError:
        size = path.stat().st_size
        raise MapError(f"{path}: truncated, or no map file at all ({size} bytes)") from None
    if file.attrs.get("format") != FORMAT:
        file.close()
        raise MapError(f"{path}: an HDF5 file, but not a map")
    version = file.attrs.get("version")
    if version != VERSION:
        file.close()
        raise MapError(
            f"{path}: map version {version}, this program reads version {VERSION}: build it again"
        )
    return file
