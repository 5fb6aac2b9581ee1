"""How long each stage takes on this machine, and how that grows."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixloc_ros.alignment import LMOptions
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.original_pixloc import Original, Run
from pixloc_ros.fastest import processor
from pixloc_ros.features.pixloc import PixLocNetwork
from pixloc_ros.geometry import Camera
from pixloc_ros.localization import Localizer, LocalizerOptions, Prior
from pixloc_ros.mapping import PixMap, SparseModel, build_map
from pixloc_ros.mapping.sparse_model import CameraEntry


@dataclass(frozen=True)
class Timing:
    """Wall time of one stage over the repeats, milliseconds."""

    stage: str
    median: float
    p95: float


@dataclass(frozen=True)
class Pair:
    """The original and ours on one query, medians in milliseconds.

    apart_m, apart_deg: between the two poses; NaN where one has none.
    """

    what: str
    original_ms: float
    ours_ms: float
    apart_m: float
    apart_deg: float

    @property
    def ratio(self) -> float:
        return self.original_ms / self.ours_ms


def memory_mib(device: torch.device) -> dict[str, float]:
    """The most that this process has held, of the host's memory and of the device's."""
    peak = {"host_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if device.type == "cuda":
        peak["device_peak_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peak


def measure(
    localizer: Localizer, image: np.ndarray, camera: Camera, repeats: int
) -> tuple[dict[str, Any], dict[str, list[Timing]]]:
    """Facts of the run, and timings of a query without a prior and of one with.

    The prior is the pose that the first query found. Raises InputError when it found none.
    """
    chosen = localizer.warm_up()
    found = localizer.localize(image, camera)
    if not found.ok:
        raise InputError(f"the query cannot be timed, it was not localized: {found.reason}")
    queries = {"without prior": None, "with prior": Prior(found.cam_from_map)}
    device = localizer.network.device
    timings = {}
    for name, prior in queries.items():
        localizer.localize(image, camera, prior)
        runs = [localizer.localize(image, camera, prior).timings_ms for _ in range(repeats)]
        timings[name] = [
            Timing(
                stage,
                float(np.median([run.get(stage, 0.0) for run in runs])),
                float(np.percentile([run.get(stage, 0.0) for run in runs], 95)),
            )
            for stage in runs[0]
        ]
    facts: dict[str, Any] = {
        "device": str(device),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu": processor(),
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "network": localizer.network.architecture,
        "weights": localizer.network.weights_hash()[:12],
        "runtime": localizer.extract.runtime,
        "precision": str(localizer.extract.dtype).removeprefix("torch."),
        "chosen": chosen,
        "image": [int(v) for v in camera.size.tolist()],
        "points": found.statistics.points,
        "iterations": f"up to {localizer.options.lm.iterations} a level",
        "repeats": repeats,
        **{name: round(value) for name, value in memory_mib(device).items()},
    }
    return facts, timings


def curves(
    localizer: Localizer, image: np.ndarray, camera: Camera, repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """(value, median milliseconds) of a fix from a prior while one thing grows."""
    found = localizer.localize(image, camera)
    if not found.ok:
        raise InputError(f"the query cannot be timed, it was not localized: {found.reason}")
    certain = Prior(found.cam_from_map)
    # half a metre and three degrees: vague enough for hypotheses to be drawn
    vague = torch.diag(torch.tensor([0.05] * 3 + [0.15**2] * 3, dtype=torch.float64))
    drawn = Prior(found.cam_from_map, vague)
    options = localizer.options

    def timed(chosen: LocalizerOptions, prior: Prior, stage: str) -> float:
        other = Localizer(localizer.map, localizer.network, chosen)
        other.choose()
        runs = [other.localize(image, camera, prior, search=False) for _ in range(repeats + 2)]
        return float(np.median([run.timings_ms[stage] for run in runs[2:]]))

    answer: dict[str, list[tuple[float, float]]] = {}
    answer["points"] = [
        (n, timed(replace(options, points=n), certain, "total"))
        for n in (150, 300, 600, 1200, 2400, 4800)
    ]
    answer["hypotheses"] = [
        (n, timed(replace(options, hypotheses=n), drawn, "total"))
        for n in (1, 2, 4, 8, 16, 32, 64)
    ]
    answer["references"] = [
        (n, timed(replace(options, references=n), certain, "total")) for n in (1, 3, 5, 10, 20)
    ]
    network: list[tuple[float, float]] = []
    for side in (160, 320, 480, 640):
        height = max(round(side * image.shape[0] / image.shape[1]), 32)
        smaller = np.ascontiguousarray(image[:height, :side])
        for _ in range(2):
            localizer.extract(smaller)
        view = camera.crop(0, 0, smaller.shape[1], smaller.shape[0])
        runs = [localizer.localize(smaller, view, certain, search=False) for _ in range(repeats)]
        network.append((side, float(np.median([r.timings_ms["total"] for r in runs]))))
    answer["image width"] = network
    return answer


def against(
    folder: Path,
    localizer: Localizer,
    images: Path,
    image: np.ndarray,
    camera: CameraEntry,
    network: PixLocNetwork,
    repeats: int,
) -> list[Pair]:
    """The original in a checkout beside ours: same query, references, points and weights.

    network: with it both are timed on equal terms; then ours is timed as it ships. The three
    references nearest to the query's pose are used, the first is where both start.
    """
    view = camera.camera()
    found = localizer.localize(image, view)
    if not found.ok:
        raise InputError(f"the query cannot be timed, it was not localized: {found.reason}")
    model = localizer.map.model
    near = localizer.candidates.visibility.visible_from(found.cam_from_map, view, 3)
    pairs, start = [], Prior(model.pose(near[0]))
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "three.pixmap.h5"
        build_map(_only(model, near), images, file, network)
        pixmap = stack.enter_context(PixMap(file))
        for what, early in (("20 iterations at every level", False), ("stopping early", True)):
            original = Original(folder, model, images, near, network, 20, early)
            theirs = [original.localize(image, camera) for _ in range(repeats + 1)][1:]
            lm = LMOptions(20, tolerance=0.02 if early else 0.0, reject_steps=early)
            options = LocalizerOptions(points=100_000, lm=lm, references=3)
            ours = _runs(Localizer(pixmap, network, options), image, view, start, repeats)
            name = f"{network.architecture}, 3 references, {original.observations()} observations"
            pairs.append(_pair(f"{name}, {what}", theirs, ours))
    # as it ships, beside the original where it stops early; other weights, another pose
    unlike = [Run(run.ms, None) for run in theirs]
    for what, prior in (("from a prior", Prior(found.cam_from_map)), ("without a prior", None)):
        runs = _runs(localizer, image, view, prior, repeats)
        pairs.append(_pair(f"{localizer.network.architecture} {what}", unlike, runs))
    return pairs


def _runs(
    localizer: Localizer, image: np.ndarray, camera: Camera, prior: Prior | None, repeats: int
) -> list[Run]:
    """After two runs that do not count."""
    runs = [
        localizer.localize(image, camera, prior, search=prior is None) for _ in range(repeats + 2)
    ]
    return [Run(r.timings_ms["total"], r.cam_from_map) for r in runs[2:]]


def _pair(what: str, theirs: Sequence[Run], ours: Sequence[Run]) -> Pair:
    apart = (float("nan"), float("nan"))
    if theirs[-1].pose is not None and ours[-1].pose is not None:
        metres, radians = ours[-1].pose.distance(theirs[-1].pose)
        apart = float(metres), float(torch.rad2deg(radians))
    return Pair(
        what,
        float(np.median([run.ms for run in theirs])),
        float(np.median([run.ms for run in ours])),
        *apart,
    )


def _only(model: SparseModel, references: Sequence[int]) -> SparseModel:
    """The model with some of its references, and all of its points."""
    spans = [slice(model.offsets[r], model.offsets[r + 1]) for r in references]
    counts = [span.stop - span.start for span in spans]
    chosen = np.array(references)
    return SparseModel(
        cameras=model.cameras,
        names=tuple(model.names[r] for r in references),
        camera_index=model.camera_index[chosen],
        quaternion=model.quaternion[chosen],
        translation=model.translation[chosen],
        points=model.points,
        track_length=model.track_length,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        observed=np.concatenate([model.observed[span] for span in spans]),
    )
