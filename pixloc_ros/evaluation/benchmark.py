"""A part of a benchmark, from its files to its results."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import torch
from tqdm import tqdm

import pixloc_ros
from pixloc_ros import ray_pool
from pixloc_ros.datasets import read_poses, write_poses, write_text
from pixloc_ros.datasets.benchmarks import DatasetLayout, Part
from pixloc_ros.datasets.text import data_lines
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.benchmark_options import BenchmarkOptions
from pixloc_ros.evaluation.benchmark_tasks import Task
from pixloc_ros.evaluation.metrics import PoseErrors
from pixloc_ros.evaluation.published import Published
from pixloc_ros.features import ImageError, check_image, open_network, read_image
from pixloc_ros.geometry import Pose
from pixloc_ros.identity import identity_of, identity_of_files
from pixloc_ros.localization import LocalizationResult, Localizer, Prior, Status
from pixloc_ros.mapping import MapError, PixMap, build_map, read_colmap
from pixloc_ros.mapping.schema import SUFFIX
from pixloc_ros.options import select_device
from pixloc_ros.worker_pool import Lost, spread


def map_of(
    part: Part, folder: Path, weights: str | None, options: BenchmarkOptions, device: str
) -> Path:
    """The map of a part, built where there is none for this model, network and levels."""
    network = open_network(weights).to(select_device(device))
    levels = options.levels(network)
    # a model that is made anew, or other images under its path, is another map
    model = read_colmap(part.sfm)
    there = [name for name in model.names if (part.reference_images / name).is_file()]
    identity = json.dumps(
        [
            *(str(part.sfm.resolve()), identity_of(part.sfm)),
            identity_of_files(part.reference_images, there),
            network.architecture,
            network.weights_hash(),
            [asdict(level) for level in levels],
        ]
    )
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    file = folder / f"{name}{SUFFIX}"
    if file.is_file():
        try:
            with PixMap(file) as pixmap:
                pixmap.require(network)
            return file
        except MapError:
            file.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    build_map(model, part.reference_images, file, network, levels)
    return file


@dataclass(frozen=True)
class Job:
    """What a process needs to answer tasks."""

    map_file: Path
    weights: str | None
    options: BenchmarkOptions
    device: str

    def __call__(self) -> _Answering:
        network = open_network(self.weights).to(select_device(self.device))
        localizer = Localizer(PixMap(self.map_file), network, self.options.localizer_options())
        return _Answering(localizer)


class _Answering:
    def __init__(self, localizer: Localizer) -> None:
        self._localizer = localizer

    def __call__(self, task: Task) -> dict[str, Any]:
        try:
            image = read_image(task.image)
        except ImageError as error:
            return _entry(LocalizationResult(Status.BAD_INPUT, str(error)), task.prior)
        prior = None if task.prior is None else Prior(task.prior)
        result = self._localizer.localize(image, task.camera, prior, task.references)
        return _entry(result, task.prior)


@dataclass(frozen=True)
class PublishedJob:
    """As `Job`, for PixLoc as it was published."""

    part: Part
    weights: str | None
    options: BenchmarkOptions
    device: str

    def __call__(self) -> _AnsweringAsPublished:
        network = open_network(self.weights).to(select_device(self.device)).eval()
        model = read_colmap(self.part.sfm)
        options = self.options
        resize = options.features.preprocessing.resize
        return _AnsweringAsPublished(
            Published(
                model,
                self.part.reference_images,
                network,
                options.refinement,
                options.optimizer,
                resize,
            ),
            {name: i for i, name in enumerate(model.names)},
        )


class _AnsweringAsPublished:
    def __init__(self, localizer: Published, number: Mapping[str, int]) -> None:
        self._localizer, self._number = localizer, number

    def __call__(self, task: Task) -> dict[str, Any]:
        references = [self._number[r] for r in task.references or () if r in self._number]
        if task.prior is None or not references:
            reason = task.reason or "no reference to start with is in the model"
            return _entry(LocalizationResult(Status.NO_REFERENCE, reason), task.prior)
        try:
            image = check_image(read_image(task.image))
        except ImageError as error:
            return _entry(LocalizationResult(Status.BAD_INPUT, str(error)), task.prior)
        result = self._localizer.localize(image, task.camera, task.prior, references, task.inliers)
        return _entry(result, task.prior)


def _entry(result: LocalizationResult, start: Pose | None) -> dict[str, Any]:
    """What is kept of an answer; `pose` is the best guess, believed or not."""
    aligned = result.status in (Status.SUCCESS, Status.REJECTED)
    guess = result.cam_from_map if aligned else start
    return {
        "status": result.status.value,
        "reason": result.reason,
        "pose": None
        if guess is None
        else [*guess.quaternion().tolist(), *guess.translation.tolist()],
        "references": list(result.references),
        "timings_ms": {k: round(v, 2) for k, v in result.timings_ms.items()},
    }


def manifest(
    options: BenchmarkOptions, map_file: Path | None, weights: str | None
) -> dict[str, Any]:
    """What it takes to run this again."""
    network = open_network(weights)
    return {
        "pixloc_ros": pixloc_ros.__version__,
        "revision": _revision(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "options": asdict(options),
        "architecture": network.architecture,
        "weights_hash": network.weights_hash(),
        "map": map_file and map_file.name,
    }


def _revision() -> str | None:
    folder = Path(pixloc_ros.__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True
        )
    except OSError:
        return None
    return found.stdout.strip() or None


def run_part(
    part: Part,
    layout: DatasetLayout,
    job: Job | PublishedJob,
    tasks: Sequence[Task],
    facts: Mapping[str, Any],
    workers: int,
    ray: str = "",
) -> dict[str, dict[str, Any]]:
    """Localize what an interrupted run left over; results, report and manifest beside them.

    workers: processes, 0 for this one. ray: address of a cluster to spread them over.
    Returns what is known of each query. Raises InputError.
    """
    part.results.parent.mkdir(parents=True, exist_ok=True)
    partial = part.results.with_name(part.results.name + ".partial.jsonl")
    header = json.dumps({**facts, "asked": _asked(part, tasks)}, sort_keys=True, default=str)
    done = _read_partial(partial, header)
    left = [task for task in tasks if task.name not in done]
    begun = time.time()
    with partial.open("a", encoding="utf-8") as log:
        if log.tell() == 0:
            log.write(header + "\n")
        answers = ray_pool.spread(job, left, workers, ray) if ray else spread(job, left, workers)
        title = part.name or layout.name
        for number, answer in tqdm(answers, total=len(left), unit="query", desc=title):
            name = left[number].name
            if isinstance(answer, Lost):
                answer = _entry(LocalizationResult(Status.FAILED, str(answer)), left[number].prior)
            done[name] = answer
            log.write(json.dumps([name, answer]) + "\n")
            log.flush()
    entries = {task.name: done[task.name] for task in tasks}
    write_poses(part.results, poses_of(entries, layout.name_parts))
    report = {"manifest": {**facts, "seconds": round(time.time() - begun, 1)}, "queries": entries}
    write_text(part.results.with_suffix(".json"), json.dumps(report, indent=1) + "\n")
    partial.unlink()
    return entries


def _asked(part: Part, tasks: Sequence[Task]) -> str:
    """What the answers of a run depend on beside its settings, as a digest of its content."""
    digest = hashlib.sha256(json.dumps(identity_of(part.sfm)).encode())
    for task in tasks:
        prior = None if task.prior is None else task.prior.matrix().tolist()
        camera = [int(task.camera.lens), task.camera.numbers().tolist()]
        image = identity_of(task.image)
        facts = [task.name, str(task.image), image, camera, prior, task.references, task.inliers]
        digest.update(json.dumps(facts, default=str).encode())
    return digest.hexdigest()


def _read_partial(path: Path, header: str) -> dict[str, dict[str, Any]]:
    """Answers that an interrupted run of the same kind left; a half-written last line is none."""
    if not path.is_file():
        return {}
    first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if first != header:
        path.unlink()
        return {}
    done = {}
    good = [first]
    for line in lines:
        try:
            name, answer = json.loads(line)
        except ValueError:
            break
        done[name] = answer
        good.append(line)
    path.write_text("".join(line + "\n" for line in good), encoding="utf-8")
    return done


def poses_of(entries: Mapping[str, Mapping[str, Any]], name_parts: int) -> dict[str, Pose]:
    """Results by the names that the evaluation server knows."""
    named = {}
    for name, entry in entries.items():
        if entry["pose"] is not None:
            short = "/".join(name.split("/")[-name_parts:]) if name_parts else name
            if short in named:
                raise InputError(f"{name}: another query is {short} to the server, too")
            named[short] = Pose.from_quaternion(entry["pose"][:4], entry["pose"][4:])
    return named


def join(results: Sequence[Path], output: Path) -> None:
    """One file to submit."""
    text = "".join(path.read_text(encoding="utf-8") for path in results)
    write_text(output, text)


def truth_of(part: Part) -> dict[str, Pose] | None:
    """True poses of the queries that count, None where they are on a server only."""
    if part.truth is None or not part.truth.exists():
        return None
    if part.truth.is_file():
        return read_poses(part.truth)
    try:
        model = pycolmap.Reconstruction(part.truth)
    except (ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else "unreadable"
        raise InputError(f"{part.truth}: no usable COLMAP model ({reason})") from None
    poses = {}
    for image in model.images.values():
        placed = image.cam_from_world()
        x, y, z, w = placed.rotation.quat
        poses[image.name] = Pose.from_quaternion([w, x, y, z], placed.translation)
    if part.listed is None or not part.listed.is_file():
        return poses
    names = [fields[0] for _, fields in data_lines(part.listed)]
    missing = next((name for name in names if name not in poses), None)
    if missing is not None:
        raise InputError(f"{part.listed}: {missing} is not in {part.truth}")
    return {name: poses[name] for name in names}


def errors_of(
    part: Part, layout: DatasetLayout, results: Mapping[str, Pose], only_localized: bool
) -> PoseErrors | None:
    """Of results under the server's names; only_localized: leave the others out."""
    truth = truth_of(part)
    if truth is None:
        return None

    def short(name: str) -> str:
        return "/".join(name.split("/")[-layout.name_parts :]) if layout.name_parts else name

    named = {name: pose for name, pose in truth.items()}
    known = {name: results[short(name)] for name in named if short(name) in results}
    if only_localized:
        named = {name: pose for name, pose in named.items() if name in known}
    return PoseErrors.of(named, known) if named else None
