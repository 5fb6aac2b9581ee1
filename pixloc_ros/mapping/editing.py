"""Maps out of maps: without some references, with fewer points, or several in one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from pixloc_ros.features import PlaceModel
from pixloc_ros.interrupts import interruptible
from pixloc_ros.mapping.map_file import PixMap
from pixloc_ros.mapping.map_writer import MapWriter, atomic_map
from pixloc_ros.mapping.schema import MapError
from pixloc_ros.mapping.sessions import Sessions
from pixloc_ros.mapping.sparse_model import SparseModel, subset

GRID = 8
"""Cells a side into which an image is divided, so that what is left lies all over it."""


def usefulness(pixmap: PixMap) -> np.ndarray:
    """How much each point (P,) helps localization, in (0, 1].

    In each cell of each reference points are ranked by the confidence of their finest features
    times the references that see them; a point is as good as its best rank anywhere.
    """
    model, finest = pixmap.model, len(pixmap.header.levels) - 1
    best = np.full(len(model.points), 1 << 30)
    for number in range(len(pixmap)):
        seen = pixmap.reference(number)
        points = seen.points.numpy()
        if not len(points):
            continue
        camera = pixmap.camera(number)
        inside = pixmap.poses[number].transform(pixmap.points[seen.points])
        pixels, _ = camera.project(inside)
        cell = (GRID * pixels / camera.size).clamp(0, GRID - 1).nan_to_num().long().numpy()
        value = seen.confidence[finest].float().numpy() * model.track_length[points]
        place = cell[:, 1] * GRID + cell[:, 0]
        order = np.lexsort((-value, place))
        first = np.r_[True, np.diff(place[order]) > 0]
        begin = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
        rank = np.empty(len(order), int)
        rank[order] = np.arange(len(order)) - begin
        np.minimum.at(best, points, rank)
    # of equal rank, those that more references see
    return (1 + model.track_length / (1 + model.track_length.max(initial=1))) / (2.0 + best)


def write_part(
    pixmap: PixMap,
    output: str | os.PathLike[str],
    references: np.ndarray,
    points: np.ndarray,
    steps: Sequence[Mapping[str, object]] = (),
) -> None:
    """Write the references (R,) and points (P,) of a map that are True.

    steps: what is done to it, for its provenance. Raises MapError.
    """
    model = subset(pixmap.model, references, points)
    if not len(model.names) or not len(model.observed):
        raise MapError(f"{output}: nothing would be left")
    with atomic_map(Path(output)) as file:
        writer = MapWriter(file, pixmap.widths, pixmap.has_patches)
        for place, number in enumerate(interruptible(np.flatnonzero(references).tolist())):
            _copy(writer, pixmap, number, model, place, points)
        kept = np.flatnonzero(references)
        descriptors = pixmap.descriptor_rows(kept)
        told = [*pixmap.provenance, *steps]
        places = None if pixmap.places is None else (pixmap.places, pixmap.described_rows(kept))
        sessions = pixmap.sessions.part(kept)
        writer.finish(
            model, descriptors, pixmap.header, told, sessions, pixmap.calibration, places
        )


def _copy(
    writer: MapWriter,
    pixmap: PixMap,
    number: int,
    model: SparseModel,
    place: int,
    points: np.ndarray,
) -> None:
    seen = pixmap.reference(number)
    kept = torch.from_numpy(points[seen.points.numpy()])
    observed = model.observed[model.offsets[place] : model.offsets[place + 1]]
    levels = zip(seen.features, seen.confidence, strict=True)
    patches = None if seen.patches is None else seen.patches[kept].numpy()
    writer.append(observed, [(f[kept].numpy(), c[kept].numpy()) for f, c in levels], patches)


def merge(maps: Sequence[PixMap], output: str | os.PathLike[str]) -> None:
    """Write several maps of one place, in one frame and of one network, as one.

    Points stay apart. Maps that describe images each in its own way, as those do that were built
    apart, are searched by the network's descriptor from then on. Raises MapError where they do
    not fit together.
    """
    first = maps[0]
    for other in maps[1:]:
        if other.header != first.header:
            raise MapError(f"{other.path}: of another network or other levels than {first.path}")
    names = [name for pixmap in maps for name in pixmap.model.names]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        both = [str(pixmap.path) for pixmap in maps if twice in pixmap.names]
        raise MapError(f"{twice} is in {' and in '.join(both or [str(first.path)])}")
    models = [pixmap.model for pixmap in maps]
    cameras = np.cumsum([0, *(len(m.cameras) for m in models)])
    points = np.cumsum([0, *(len(m.points) for m in models)])
    rows = np.cumsum([0, *(len(m.observed) for m in models)])
    joined = SparseModel(
        cameras=tuple(camera for m in models for camera in m.cameras),
        names=tuple(names),
        camera_index=np.concatenate(
            [m.camera_index + add for m, add in zip(models, cameras, strict=False)]
        ).astype(np.int32),
        quaternion=np.concatenate([m.quaternion for m in models]),
        translation=np.concatenate([m.translation for m in models]),
        points=np.concatenate([m.points for m in models]),
        track_length=np.concatenate([m.track_length for m in models]),
        offsets=np.concatenate(
            [[0], *(m.offsets[1:] + add for m, add in zip(models, rows, strict=False))]
        ).astype(np.int64),
        observed=np.concatenate(
            [m.observed + add for m, add in zip(models, points, strict=False)]
        ).astype(np.int32),
    )
    place = 0
    with atomic_map(Path(output)) as file:
        writer = MapWriter(file, first.widths, any(m.has_patches for m in maps))
        for pixmap in maps:
            everything = np.ones(len(pixmap.model.points), bool)
            for number in interruptible(range(len(pixmap))):
                _copy(writer, pixmap, number, joined, place, everything)
                place += 1
        descriptors = np.concatenate([m.descriptor_rows(np.arange(len(m))) for m in maps])
        parts = [
            # hidden files lie in between, and are no names to keep
            ({} if m.path.name.startswith(".") else {"map": m.path.name})
            | {"references": len(m), "provenance": m.provenance}
            for m in maps
        ]
        told = [{"step": "merge", "maps": parts}]
        # the least sure: of which map an answer is, is not asked
        known = [m.calibration for m in maps if m.calibration is not None]
        factors = (max(t for t, _ in known), max(r for _, r in known)) if known else None
        sessions = Sessions.joined([m.sessions for m in maps])
        places = _common_places(maps)
        writer.finish(joined, descriptors, first.header, told, sessions, factors, places)


def _common_places(maps: Sequence[PixMap]) -> tuple[PlaceModel, np.ndarray] | None:
    """The model that all maps describe images by, and what it says of all references."""
    first = maps[0].places
    if first is None:
        return None
    for other in maps[1:]:
        if other.places is None or not torch.equal(other.places.projection, first.projection):
            return None
    return first, np.concatenate([m.described_rows(np.arange(len(m))) for m in maps])
