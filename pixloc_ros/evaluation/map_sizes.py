"""How time and memory of a query grow with the map it is localized in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.features import open_network, read_image
from pixloc_ros.interrupts import interruptible, let_through
from pixloc_ros.localization import Localizer, LocalizerOptions, Prior
from pixloc_ros.localization.map_set_server import resident_mb
from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.approximate import make_index
from pixloc_ros.mapping.editing import write_part
from pixloc_ros.mapping.map_writer import atomic_map
from pixloc_ros.mapping.schema import FORMAT, SUFFIX, VERSION
from pixloc_ros.retrieval import DescriptorIndex, FileIndex
from pixloc_ros.worker_pool import spread

PITCH = 200.0
"""Metres between places of a grown map."""

APART = 1.6
"""Spread of places, in those of the images of one: about what four real places of different kinds
show, whose mean descriptors are 0.8 to 1.1 apart, and their images 0.3 to 0.4 from the mean."""

ASKED = 200
"""Descriptors with which the approximate index is compared with the exact one."""


@dataclass(frozen=True)
class SizeCost:
    """What a map of one size costs, times in milliseconds, memory in MiB.

    open_ms: opening it, with everything that a localizer needs. first_ms: a query without prior
    whose surroundings were never read; search_ms, prior_ms: one without prior and one with, their
    surroundings in memory. index_ms: of that, the search by descriptor. open_mib, query_mib: what
    the process holds more than before, once it is open and after all queries. read_mib: read
    from the file by the first query. recall: share of the ten nearest by descriptor that
    the index finds. found: whether the answer is that of the small map.
    """

    references: int
    points: int
    file_gib: float
    open_ms: float
    first_ms: float
    search_ms: float
    prior_ms: float
    index_ms: float
    open_mib: float
    query_mib: float
    read_mib: float
    recall: float
    found: bool


def resize(pixmap: PixMap, count: int, output: Path, place: np.ndarray) -> int:
    """Write a map of `count` references: those nearest to a place (3,), or all of them and more
    as `grow` does. Returns the first reference of the original.
    """
    if count > len(pixmap):
        return grow(pixmap, count, output)
    away = np.linalg.norm(pixmap.centres() - place, axis=1)
    chosen = np.zeros(len(pixmap), bool)
    chosen[np.argsort(away, kind="stable")[:count]] = True
    write_part(pixmap, output, chosen, np.ones(pixmap.point_count, bool))
    return 0


def grow(pixmap: PixMap, count: int, output: Path) -> int:
    """Write a map of `count` references: the given one, among copies of it at other places.

    Copies have geometry and descriptors of their own, drawn like the map's; features are those
    of the given map alone, since they would fill the disk and nobody asks for others. Returns the
    first reference of the original.
    """
    model, size = pixmap.model, len(pixmap)
    if count <= size:
        raise InputError(f"a map of {size} references does not grow to {count}")
    copies = -(-count // size)
    middle = copies // 2
    side = int(np.ceil(np.sqrt(copies)))
    places = PITCH * np.stack(np.divmod(np.arange(copies), side), -1)
    shifts = np.concatenate([places - places[middle], np.zeros((copies, 1))], 1)
    poses = pixmap.poses
    known = pixmap.descriptor_rows(np.arange(size))
    random = np.random.default_rng(0)
    spectrum = np.linalg.svd(known - known.mean(0), full_matrices=False)
    axes = spectrum.S[:, None] * spectrum.Vh / np.sqrt(size)
    points, seen = len(model.points), len(model.observed)
    with atomic_map(output) as file:
        rows = copies * size

        def table(name: str, total: int, *row: int, kind: Any) -> h5py.Dataset:
            return file.create_dataset(name, (total, *row), kind)

        translation = table("references/translation", rows, 3, kind=np.float64)
        descriptor = table("references/descriptor", rows, known.shape[1], kind=np.float32)
        xyz = table("points/xyz", copies * points, 3, kind=np.float64)
        observed = table("observations/point", copies * seen, kind=np.int32)
        for copy in interruptible(range(copies)):
            at = slice(copy * size, (copy + 1) * size)
            # cam_from_map of the camera moved by the shift
            moved = torch.from_numpy(-shifts[copy])
            translation[at] = poses.transform(moved.expand(size, 1, 3))[:, 0].numpy()
            place = APART * random.standard_normal(len(axes)) @ axes
            drawn = known + place
            drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
            descriptor[at] = known if copy == middle else drawn
            xyz[copy * points : (copy + 1) * points] = model.points + shifts[copy]
            observed[copy * seen : (copy + 1) * seen] = model.observed + copy * points
        names = [f"{c:06d}/{n}".encode() for c in range(copies) for n in model.names]
        file.create_dataset("references/name", data=names, dtype=h5py.string_dtype())
        entries = [json.dumps(asdict(c)) for c in model.cameras]
        file.create_dataset("cameras", data=entries, dtype=h5py.string_dtype())
        file["references/camera"] = np.tile(model.camera_index, copies)
        file["references/quaternion"] = np.tile(model.quaternion, (copies, 1))
        file["points/track_length"] = np.tile(model.track_length, copies)
        steps = np.arange(copies)[:, None] * seen + model.offsets[:-1]
        file["observations/offsets"] = np.append(steps.ravel(), copies * seen).astype(np.int64)
        first = middle * seen
        for level, width in enumerate(pixmap.widths):
            for name, shape in (("features", (width,)), ("confidence", ())):
                chunks = (1024, *shape)
                where = f"levels/{level}/{name}"
                stored = file.create_dataset(
                    where, (copies * seen, *shape), np.float16, chunks=chunks
                )
                for number in range(size):
                    reference = pixmap.reference(number)
                    begin = first + int(model.offsets[number])
                    values = getattr(reference, name)[level]
                    stored[begin : begin + len(values)] = values.numpy()
            statistics = pixmap.statistics[level]
            file[f"levels/{level}/matching"] = statistics.matching
            file[f"levels/{level}/unrelated"] = statistics.unrelated
        descriptors = descriptor[:]
        with let_through():
            index = make_index(descriptors)
        if index is not None:
            file["references/index"], file["references/descriptor_mean"] = index
        file.attrs.update(format=FORMAT, version=VERSION, header=pixmap.header.to_json())
    return middle * size


@dataclass(frozen=True)
class _Timed:
    """small: the map that was grown; first: its first reference in the large one."""

    small: Path
    large: Path
    first: int
    image: Path


def _read_mib() -> float:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar")) / 2**20


def _milliseconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begun)


def _prepare(
    weights: str | None, options: LocalizerOptions, cache_mb: float, repeats: int
) -> Callable[[_Timed], SizeCost | InputError]:
    network = open_network(weights)

    def answer(query: _Timed) -> SizeCost | InputError:
        try:
            return cost(query)
        except InputError as error:
            return error

    def cost(query: _Timed) -> SizeCost:
        image = read_image(query.image)
        with PixMap(query.small) as pixmap:
            # memory for network and kernels is taken once, whatever the map
            localizer = Localizer(pixmap, network, options, cache_mb)
            localizer.warm_up()
            known = localizer.localize(image, pixmap.camera(0))
            if not known.ok:
                raise InputError(f"{query.image}: not found in {query.small}: {known.reason}")
        del localizer
        before = resident_mb()
        begun = time.perf_counter()
        with PixMap(query.large) as pixmap:
            localizer = Localizer(pixmap, network, options, cache_mb)
            open_ms = 1e3 * (time.perf_counter() - begun)
            localizer.warm_up()  # at the first reference, which is at another place
            opened = resident_mb()
            camera = pixmap.camera(query.first)
            before_mib = _read_mib()
            found = localizer.localize(image, camera)
            read = _read_mib() - before_mib
            prior = Prior(known.cam_from_map)
            away = float(found.cam_from_map.distance(known.cam_from_map)[0])

            def median(*asked: Any) -> float:
                runs = [localizer.localize(image, camera, *asked) for _ in range(repeats)]
                return float(np.median([run.timings_ms["total"] for run in runs]))

            descriptor = localizer.map.describe(localizer.extract(image))
            searches = [
                _milliseconds(lambda: localizer.candidates.index.search(descriptor, 10))
                for _ in range(repeats)
            ]
            return SizeCost(
                len(pixmap),
                pixmap.point_count,
                query.large.stat().st_blocks * 512 / 2**30,
                open_ms,
                found.timings_ms["total"],
                median(),
                median(prior),
                float(np.median(searches)),
                opened - before,
                resident_mb() - before,
                read,
                _recall(pixmap, localizer.candidates.index),
                found.ok and away < 0.1,
            )

    return answer


def _recall(pixmap: PixMap, index: Any) -> float:
    """Share of the ten truly nearest that an index finds, for descriptors near to known ones."""
    if not isinstance(index, FileIndex):
        return 1.0
    everything = pixmap.described_rows(np.arange(len(pixmap)))
    exact = DescriptorIndex(torch.from_numpy(everything))
    random = np.random.default_rng(1)
    chosen = everything[random.integers(0, len(pixmap), ASKED)]
    noise = random.standard_normal(chosen.shape) * 0.5 * everything[:10_000].std(0)
    shares = []
    for asked in torch.from_numpy((chosen + noise).astype(np.float32)):
        true, _ = exact.search(asked, 10)
        found, _ = index.search(asked, 10)
        shares.append(len(set(true) & set(found)) / len(true))
    return float(np.mean(shares))


def size_costs(
    localizer: Localizer,
    image: Path,
    sizes: Sequence[int],
    weights: str | None,
    repeats: int,
) -> Iterator[SizeCost]:
    """The cost of maps of each size, made of a localizer's, each in a fresh process of one thread.

    image: of a query, taken with the first reference's camera. Raises InputError where it is not
    found in the map itself.
    """
    pixmap, options, cache_mb = localizer.map, localizer.options, localizer.cache_mb
    found = localizer.localize(read_image(image), pixmap.camera(0))
    if not found.ok:
        raise InputError(f"{image}: not found in {pixmap.path}: {found.reason}")
    place = found.cam_from_map.inverse().translation.numpy()
    prepare = partial(_prepare, weights, options, cache_mb, repeats)
    with TemporaryDirectory(dir=pixmap.path.parent) as folder:
        for size in sizes:
            grown = Path(folder) / f"{size}{SUFFIX}"
            first = resize(pixmap, size, grown, place)
            query = _Timed(pixmap.path, grown, first, image)
            with closing(spread(prepare, [query], 1)) as answers:
                for _, answer in answers:
                    if isinstance(answer, Exception):
                        raise InputError(f"{size} references: {answer}")
                    yield answer
            grown.unlink()
