"""Reading a map file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from pixloc_ros.features import FeatureNetwork
from pixloc_ros.geometry import Pose
from pixloc_ros.mapping.schema import FORMAT, VERSION, MapError, MapHeader, checksum
from pixloc_ros.mapping.sparse_model import CameraEntry, SparseModel


@dataclass(frozen=True)
class ReferenceFeatures:
    """What one reference remembers of its points.

    points: (n,) indices into the map's points.
    features[i]: (n, C_i) half, unit norm; confidence[i]: (n,) half; i as the map's levels.
    """

    points: Tensor
    features: tuple[Tensor, ...]
    confidence: tuple[Tensor, ...]


@dataclass(frozen=True)
class ResidualStatistics:
    """Quantiles (Q,) of squared residuals of one level, measured between the references.

    matching: of the same point seen by two references; unrelated: of two points.
    """

    matching: np.ndarray
    unrelated: np.ndarray


class PixMap:
    """An open map. Structure lives in memory; features are read by reference.

    Use as a context manager, or `close` it. Raises MapError for a missing, truncated or
    foreign file.
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
            reason = str(error).strip().splitlines()[0]
            raise MapError(f"{self.path}: damaged map ({reason})") from None

    def _read(self) -> None:
        file = self._file
        self.header = MapHeader.from_json(str(file.attrs["header"]))
        entries = [json.loads(text) for text in file["cameras"].asstr()[:]]
        offsets, observed = file["observations/offsets"][:], file["observations/point"][:]
        self.model = SparseModel(
            cameras=tuple(
                CameraEntry(e["model"], e["width"], e["height"], tuple(e["params"]))
                for e in entries
            ),
            names=tuple(file["references/name"].asstr()[:]),
            camera_index=file["references/camera"][:],
            quaternion=file["references/quaternion"][:],
            translation=file["references/translation"][:],
            points=file["points/xyz"][:],
            track_length=file["points/track_length"][:],
            offsets=offsets,
            observed=observed,
        )
        self.descriptors = torch.from_numpy(file["references/descriptor"][:])
        self._check_structure()
        self.cameras = tuple(entry.camera() for entry in self.model.cameras)
        self.poses = Pose.from_quaternion(self.model.quaternion, self.model.translation)
        self.points = torch.from_numpy(self.model.points)
        self.statistics = tuple(
            ResidualStatistics(file[f"levels/{i}/matching"][:], file[f"levels/{i}/unrelated"][:])
            for i in range(len(self.header.levels))
        )

    def _check_structure(self) -> None:
        model, count = self.model, len(self.model.names)
        observations = len(model.observed)
        lengths = {
            "camera": len(model.camera_index),
            "quaternion": len(model.quaternion),
            "translation": len(model.translation),
            "descriptor": len(self.descriptors),
            "offsets": len(model.offsets) - 1,
        }
        wrong = next((name for name, length in lengths.items() if length != count), None)
        if wrong or count == 0:
            raise MapError(f"{self.path}: damaged map ({wrong or 'names'} of {count} references)")
        steps = np.diff(model.offsets)
        if model.offsets[0] != 0 or model.offsets[-1] != observations or (steps < 0).any():
            raise MapError(f"{self.path}: damaged map (observation offsets)")
        if observations and not 0 <= model.observed.min() <= model.observed.max() < len(
            model.points
        ):
            raise MapError(f"{self.path}: damaged map (an observation of no point)")
        if not 0 <= model.camera_index.min() <= model.camera_index.max() < len(model.cameras):
            raise MapError(f"{self.path}: damaged map (a reference without camera)")
        shapes = {
            "points": (model.points.ndim == 2 and model.points.shape[1] == 3),
            "quaternions": model.quaternion.shape == (count, 4),
            "translations": model.translation.shape == (count, 3),
            "descriptors": self.descriptors.dim() == 2,
            "levels": len(self.header.levels) > 0,
        }
        wrong = next((name for name, right in shapes.items() if not right), None)
        if wrong:
            raise MapError(f"{self.path}: damaged map (shape of the {wrong})")
        arrays = (model.points, model.quaternion, model.translation, self.descriptors.numpy())
        if not all(np.isfinite(array).all() for array in arrays):
            raise MapError(f"{self.path}: damaged map (numbers that are not finite)")
        for i in range(len(self.header.levels)):
            for name in ("features", "confidence"):
                if len(self._file[f"levels/{i}/{name}"]) != observations:
                    raise MapError(f"{self.path}: damaged map ({name} of level {i})")

    def __len__(self) -> int:
        """Number of references."""
        return len(self.model.names)

    @property
    def observation_counts(self) -> np.ndarray:
        """Observations of each reference, (R,)."""
        return np.diff(self.model.offsets)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        levels = range(len(self.header.levels))
        return tuple(int(self._file[f"levels/{i}/features"].shape[1]) for i in levels)

    def require(self, network: FeatureNetwork) -> None:
        """Raise MapError unless this network filled the map."""
        if network.architecture != self.header.architecture:
            raise MapError(
                f"{self.path}: filled by a {self.header.architecture} network, "
                f"not by {network.architecture}; name its weights or rebuild the map"
            )
        ours = network.weights_hash()
        if ours != self.header.weights_hash:
            raise MapError(
                f"{self.path}: filled by other {network.architecture} weights "
                f"({self.header.weights_hash[:12]}, loaded {ours[:12]}); rebuild the map"
            )

    def reference(self, index: int) -> ReferenceFeatures:
        """Points and features of one reference, from the file."""
        rows = slice(int(self.model.offsets[index]), int(self.model.offsets[index + 1]))
        levels = range(len(self.header.levels))
        try:
            return ReferenceFeatures(
                torch.from_numpy(self.model.observed[rows].astype(np.int64)),
                tuple(torch.from_numpy(self._file[f"levels/{i}/features"][rows]) for i in levels),
                tuple(
                    torch.from_numpy(self._file[f"levels/{i}/confidence"][rows]) for i in levels
                ),
            )
        except OSError as error:
            reason = str(error).strip().splitlines()[0]
            raise MapError(f"{self.path}: reading reference {index} failed ({reason})") from None

    def verify(self) -> None:
        """Read the whole file and compare its checksum. Raises MapError when it differs."""
        try:
            found = checksum(self._file)
        except (OSError, KeyError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise MapError(f"{self.path}: damaged map ({reason})") from None
        if found != self._file.attrs.get("checksum"):
            raise MapError(f"{self.path}: damaged map (the checksum does not match the content)")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> PixMap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
        raise MapError(f"{path}: map version {version}, this program reads version {VERSION}")
    return file
