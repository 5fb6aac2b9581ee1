"""The layout of a `.pixmap.h5` file, version 1.

    /                    attributes: format, version, header (JSON), provenance (JSON), checksum,
                         and, where known, calibration (JSON): see `calibration.py`
    /cameras             JSON strings, one a camera: model, width, height, params
    /references/name     (R,) strings             /references/camera  (R,) int32
    /references/quaternion (R, 4) w x y z         /references/translation (R, 3) cam_from_map
    /references/descriptor (R, D) float32
    /references/session  (R,) int32, and /sessions JSON strings, one a session: name, begun; not
                         in older maps
    /references/place    (R, K) float32, and /places/centre (C,), anchors (C, A), mean (D + A,),
                         projection (D + A, K) float32: see `features.PlaceModel`; not in older
                         maps, in small ones, and in those that were merged of several
    /references/index    faiss's bytes, and /references/descriptor_mean, of large maps
    /points/xyz          (P, 3) float64, metres   /points/track_length (P,) int32
    /observations/offsets (R + 1,) int64          /observations/point (M,) int32
    /observations/patch  (M, S, S) uint8, grey values around the point; not in older maps
    /levels/<i>/features (M, C_i) float16         /levels/<i>/confidence (M,) float16
    /levels/<i>/matching, /levels/<i>/unrelated   (Q,) float32 quantiles of squared residuals

Levels are ordered coarse to fine. The features of observation m lie at row m of every level.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import h5py
import numpy as np

from pixloc_ros.errors import InputError
from pixloc_ros.features import PyramidLevel

FORMAT = "pixloc_map"
VERSION = 1
"""A change raises it if earlier programs would misread the new files. A dataset that is merely
added does not: earlier programs pass it over, and this one takes it as absent in earlier files."""
SUFFIX = ".pixmap.h5"
PLACES = ("centre", "anchors", "mean", "projection")
QUANTILES = np.linspace(0, 1, 101)


class MapError(InputError):
    """A map file that cannot be used, with the file and the reason in one line."""


@dataclass(frozen=True)
class MapHeader:
    """Which network filled the map, and how.

    architecture and weights_hash: see `FeatureNetwork`. levels: the pyramid, coarse to fine.
    """

    architecture: str
    weights_hash: str
    levels: tuple[PyramidLevel, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> MapHeader:
        content = json.loads(text)
        return cls(
            str(content["architecture"]),
            str(content["weights_hash"]),
            tuple(
                PyramidLevel(int(v["image_size"]), int(v["network_level"]))
                for v in content["levels"]
            ),
        )


def checksum(file: h5py.File) -> str:
    """SHA-256 over header, provenance and every dataset's name, type, shape and content."""
    told = str(file.attrs["header"]) + str(file.attrs.get("provenance", ""))
    digest = hashlib.sha256(told.encode())
    datasets: list[h5py.Dataset] = []
    file.visititems(
        lambda _, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None
    )
    for dataset in sorted(datasets, key=lambda d: d.name):
        digest.update(f"{dataset.name} {dataset.dtype.kind} {dataset.shape}".encode())
        if dataset.dtype.kind == "O":
            digest.update("\0".join(dataset.asstr()[:]).encode())
            continue
        rows = max(1, 2**24 // max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))))
        for first in range(0, len(dataset), rows):
            digest.update(np.ascontiguousarray(dataset[first : first + rows]).tobytes())
    return digest.hexdigest()
