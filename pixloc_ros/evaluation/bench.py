"""How long each stage takes on this machine."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera
from pixloc_ros.localization import Localizer, Prior


@dataclass(frozen=True)
class Timing:
    """Wall time of one stage over the repeats, milliseconds."""

    stage: str
    median: float
    p95: float


def measure(
    localizer: Localizer, image: np.ndarray, camera: Camera, repeats: int
) -> tuple[dict[str, Any], dict[str, list[Timing]]]:
    """Facts of the run, and timings of a query without a prior and of one with.

    The prior is the pose that the first query found. Raises InputError when it found none.
    """
    found = localizer.localize(image, camera)  # the first call also warms up
    if not found.ok:
        raise InputError(f"the query cannot be timed, it was not localized: {found.reason}")
    queries = {"without prior": None, "with prior": Prior(found.cam_from_map)}
    facts: dict[str, Any] = {
        "device": str(localizer.network.device),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu": platform.processor() or platform.machine(),
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "network": localizer.network.architecture,
        "weights": localizer.network.weights_hash()[:12],
        "image": [int(v) for v in camera.size.tolist()],
        "points": found.statistics.points,
        "repeats": repeats,
    }
    timings = {}
    for name, prior in queries.items():
        runs = [localizer.localize(image, camera, prior).timings_ms for _ in range(repeats)]
        timings[name] = [
            Timing(
                stage,
                float(np.median([run.get(stage, 0.0) for run in runs])),
                float(np.percentile([run.get(stage, 0.0) for run in runs], 95)),
            )
            for stage in runs[0]
        ]
    return facts, timings
