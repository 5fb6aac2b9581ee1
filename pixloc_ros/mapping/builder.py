"""Building a map file from a sparse model and its images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pixloc_ros.features import (
    FeatureNetwork,
    ImageError,
    ImagePyramid,
    PyramidLevel,
    default_levels,
    extract_pyramid,
    read_image,
)
from pixloc_ros.geometry import Camera, FeatureTable, Pose
from pixloc_ros.mapping.schema import (
    FORMAT,
    QUANTILES,
    SUFFIX,
    VERSION,
    MapError,
    MapHeader,
    checksum,
)
from pixloc_ros.mapping.sparse_model import ModelError, SparseModel, keep_long_tracks

STATISTICS_PAIRS = 20_000


class Progress(Protocol):
    """Called with the number of finished references and of all."""

    def __call__(self, done: int, total: int) -> object: ...


@dataclass(frozen=True)
class BuildSummary:
    """What went into a map."""

    references: int
    points: int
    observations: int
    dropped_observations: int
    megabytes: float


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


@contextmanager
def atomic_map(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file that appears under its name only when it is complete and on disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with h5py.File(temporary, "w") as file:
            yield file
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class MapWriter:
    """Appends the observations of one reference after the other."""

    def __init__(self, file: h5py.File, widths: Sequence[int]) -> None:
        self.file = file
        self.offsets = [0]
        self._point = self._growing("observations/point", (), np.int32)
        self._levels = [
            (
                self._growing(f"levels/{i}/features", (width,), np.float16),
                self._growing(f"levels/{i}/confidence", (), np.float16),
            )
            for i, width in enumerate(widths)
        ]

    def _growing(self, name: str, row: tuple[int, ...], dtype: type) -> h5py.Dataset:
        return self.file.create_dataset(
            name, (0, *row), dtype, maxshape=(None, *row), chunks=(1024, *row)
        )

    def append(self, points: np.ndarray, samples: Sequence[tuple[Tensor, Tensor]]) -> None:
        first, last = self.offsets[-1], self.offsets[-1] + len(points)
        self._point.resize(last, axis=0)
        self._point[first:last] = points
        for (features, confidence), (f, c) in zip(self._levels, samples, strict=True):
            for dataset, values in ((features, f), (confidence, c)):
                dataset.resize(last, axis=0)
                dataset[first:last] = values.half().numpy()
        self.offsets.append(last)

    def finish(self, model: SparseModel, descriptors: np.ndarray, header: MapHeader) -> None:
        """Everything but the observations."""
        self.file["observations/offsets"] = np.array(self.offsets, np.int64)
        _write_structure(self.file, model, descriptors)
        _write_statistics(self.file, len(header.levels))
        self.file.attrs.update(format=FORMAT, version=VERSION, header=header.to_json())
        self.file.attrs["checksum"] = checksum(self.file)


def build_map(
    model: SparseModel,
    images: str | os.PathLike[str],
    output: str | os.PathLike[str],
    network: FeatureNetwork,
    levels: Sequence[PyramidLevel] | None = None,
    min_track_length: int = 3,
    progress: Progress | None = None,
) -> BuildSummary:
    """Write the map of a sparse model, with features sampled at its 3D points.

    images: folder of the reference images. min_track_length: fewest references that must
    see a point. Nothing is left behind under `output` when anything fails.
    Raises MapError, ModelError or ImageError.
    """
    output, folder = Path(output), Path(images)
    if not output.name.endswith(SUFFIX):
        raise MapError(f"{output}: the name of a map file ends in {SUFFIX}")
    if not output.parent.is_dir():
        raise MapError(f"{output.parent}: no such folder to write the map to")
    missing = next((name for name in model.names if not (folder / name).is_file()), None)
    if missing is not None:
        raise ImageError(f"{folder / missing}: no such image, but the model has it")
    model = keep_long_tracks(model, min_track_length)
    levels = tuple(levels or default_levels(network))
    points = torch.from_numpy(model.points)
    descriptors = []
    with atomic_map(output) as file:
        writer = MapWriter(file, [network.channels[level.network_level] for level in levels])
        for number, name in enumerate(model.names):
            image = read_image(folder / name)
            entry = model.cameras[model.camera_index[number]]
            if (image.shape[1], image.shape[0]) != (entry.width, entry.height):
                raise ImageError(
                    f"{folder / name}: {image.shape[1]} x {image.shape[0]} pixels, "
                    f"its camera has {entry.width} x {entry.height}"
                )
            pyramid = extract_pyramid(network, image, levels)
            seen = model.observed[model.offsets[number] : model.offsets[number + 1]]
            kept, samples = sample_points(
                pyramid, entry.camera(), model.pose(number), points[seen]
            )
            writer.append(seen[kept.numpy()], samples)
            descriptors.append(pyramid.descriptor.cpu().numpy())
            if progress is not None:
                progress(number + 1, len(model.names))
        if writer.offsets[-1] == 0:
            raise ModelError(f"{output}: no point projects into the image that observes it")
        header = MapHeader(network.architecture, network.weights_hash(), levels)
        writer.finish(model, np.stack(descriptors).astype(np.float32), header)
    return BuildSummary(
        references=len(model.names),
        points=len(model.points),
        observations=writer.offsets[-1],
        dropped_observations=len(model.observed) - writer.offsets[-1],
        megabytes=output.stat().st_size / 2**20,
    )


def _write_structure(file: h5py.File, model: SparseModel, descriptors: np.ndarray) -> None:
    text = h5py.string_dtype()
    file.create_dataset("cameras", data=[json.dumps(asdict(c)) for c in model.cameras], dtype=text)
    file.create_dataset("references/name", data=list(model.names), dtype=text)
    for name, values in {
        "references/camera": model.camera_index,
        "references/quaternion": model.quaternion,
        "references/translation": model.translation,
        "references/descriptor": descriptors,
        "points/xyz": model.points,
        "points/track_length": model.track_length,
    }.items():
        file[name] = values


def _write_statistics(file: h5py.File, levels: int) -> None:
    """How far features of the same point, and of unrelated points, are apart in this map."""
    point = file["observations/point"][:]
    order = np.argsort(point, kind="stable")
    repeated = np.flatnonzero(point[order][1:] == point[order][:-1])
    generator = np.random.default_rng(0)
    chosen = generator.permutation(repeated)[:STATISTICS_PAIRS]
    matching = (order[chosen], order[chosen + 1])
    unrelated = tuple(generator.integers(0, len(point), (2, STATISTICS_PAIRS)))
    for i in range(levels):
        features = file[f"levels/{i}/features"][:].astype(np.float32)
        for name, (a, b) in (("matching", matching), ("unrelated", unrelated)):
            squared = ((features[a] - features[b]) ** 2).sum(-1)
            # a map without any point seen twice has nothing to measure
            values = (
                np.quantile(squared, QUANTILES)
                if len(squared)
                else np.full(len(QUANTILES), np.nan)
            )
            file[f"levels/{i}/{name}"] = values.astype(np.float32)
