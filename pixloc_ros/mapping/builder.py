"""Building a map file from a sparse model and its images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pixloc_ros import ray_pool
from pixloc_ros.errors import InputError, require_room
from pixloc_ros.features import (
    PATCH_SIDE,
    Extractor,
    FeatureNetwork,
    ImageError,
    PlaceModel,
    PyramidLevel,
    check_image,
    default_levels,
    extract_pyramid,
    learn_places,
    read_image,
)
from pixloc_ros.features.places import ENOUGH, SAMPLED, SMALLEST
from pixloc_ros.interrupts import interruptible
from pixloc_ros.mapping.map_writer import MapWriter, atomic_map
from pixloc_ros.mapping.sampling import ReferenceView, Sample, read_sample, sampler_of
from pixloc_ros.mapping.schema import (
    SUFFIX,
    MapError,
    MapHeader,
)
from pixloc_ros.mapping.sessions import Session, Sessions
from pixloc_ros.mapping.sparse_model import (
    ModelError,
    SparseModel,
    in_order_of_sight,
    keep_long_tracks,
)
from pixloc_ros.worker_pool import Lost, spread


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


def build_map(
    model: SparseModel,
    images: str | os.PathLike[str],
    output: str | os.PathLike[str],
    network: FeatureNetwork,
    levels: Sequence[PyramidLevel] | None = None,
    min_track_length: int = 3,
    progress: Progress | None = None,
    *,
    workers: int = 0,
    ray: str = "",
    pieces: Path | None = None,
    provenance: Sequence[Mapping[str, object]] = (),
    places: PlaceModel | None = None,
    session: Session | None = None,
) -> BuildSummary:
    """Write the map of a sparse model, with features sampled at its 3D points.

    images: folder of the reference images. min_track_length: fewest references that must
    see a point. workers: processes, 0 for this one; ray: address of a cluster to spread them
    over; the file is the same. pieces: folder for what is sampled already, so that an
    interrupted build goes on; it is removed when the map is there. places: describe images as
    another map does, whose part this becomes, instead of learning how from the images.
    session: in which all images were taken.
    Nothing is left behind under `output` when anything fails.
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
    model = in_order_of_sight(keep_long_tracks(model, min_track_length))
    levels = tuple(levels or default_levels(network))
    widths = [network.channels[level.network_level] for level in levels]
    size = len(model.observed) * (2 * sum(widths) + 2 * len(widths) + PATCH_SIDE**2 + 4)
    require_room(output.parent, size)
    if pieces is not None:
        pieces.mkdir(parents=True, exist_ok=True)
        require_room(pieces, size)
    views = [_reference_view(model, number, folder) for number in range(len(model.names))]
    if places is None:
        places = _learn_places(model.names, folder, network, levels)
    make = sampler_of(network, levels, pieces, places)
    answers = ray_pool.spread(make, views, workers, ray) if ray else (spread(make, views, workers))
    descriptors, described = [], []
    with atomic_map(output) as file, closing(answers):
        writer = MapWriter(file, widths)
        told = _counted(answers, len(views), progress)
        for number, sample in enumerate(interruptible(_in_order(told))):
            seen = model.observed[model.offsets[number] : model.offsets[number + 1]]
            writer.append(seen[sample.kept], sample.levels, sample.patches)
            descriptors.append(sample.descriptor)
            described.append(sample.place)
        if writer.offsets[-1] == 0:
            raise ModelError(f"{output}: no point projects into the image that observes it")
        header = MapHeader(network.architecture, network.weights_hash(), levels)
        known = None if places is None else (places, np.stack(described))
        sessions = Sessions.one(session or Session(), len(views))
        writer.finish(model, np.stack(descriptors), header, provenance, sessions, places=known)
    if pieces is not None:
        shutil.rmtree(pieces, ignore_errors=True)
    return BuildSummary(
        references=len(model.names),
        points=len(model.points),
        observations=writer.offsets[-1],
        dropped_observations=len(model.observed) - writer.offsets[-1],
        megabytes=output.stat().st_size / 2**20,
    )


def _learn_places(
    names: Sequence[str], folder: Path, network: FeatureNetwork, levels: Sequence[PyramidLevel]
) -> PlaceModel | None:
    """How the images of a map are described; None where they are too few to say."""
    chosen = np.unique(np.linspace(0, len(names) - 1, min(len(names), SAMPLED)).astype(int))
    images = []
    for number in chosen.tolist():
        try:
            image = check_image(read_image(folder / names[number]))
        except ImageError:
            continue  # whoever samples it says what is wrong with it
        if min(image.shape[:2]) >= SMALLEST:
            images.append(image)
    if len(images) < ENOUGH:
        return None
    coarsest = min(levels, key=lambda level: (level.image_size, -level.network_level))
    if network.device.type == "cpu":
        return learn_places(images, Extractor(network, [coarsest]))
    return learn_places(images, partial(extract_pyramid, network, levels=[coarsest]))


def _reference_view(model: SparseModel, number: int, folder: Path) -> ReferenceView:
    seen = model.observed[model.offsets[number] : model.offsets[number + 1]]
    return ReferenceView(
        folder / model.names[number],
        model.cameras[model.camera_index[number]],
        model.quaternion[number],
        model.translation[number],
        model.points[seen],
    )


def _counted(
    answers: Iterable[tuple[int, Any]], total: int, progress: Progress | None
) -> Iterator[tuple[int, Any]]:
    for done, answer in enumerate(answers, 1):
        yield answer
        if progress is not None:
            progress(done, total)


def _in_order(answers: Iterable[tuple[int, Any]]) -> Iterator[Sample]:
    """Samples by number, whatever the order in which processes finish them."""
    waiting: dict[int, Any] = {}
    following = 0
    for number, answer in answers:
        if isinstance(answer, InputError):
            raise answer
        if isinstance(answer, Lost):
            raise ModelError(f"reference {number} could not be sampled: {answer}")
        waiting[number] = answer
        while following in waiting:
            ready = waiting.pop(following)
            yield read_sample(ready) if isinstance(ready, Path) else ready
            following += 1
