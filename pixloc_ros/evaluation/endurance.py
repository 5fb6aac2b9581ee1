"""Whether time and memory of a query stay what they are over many of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pixloc_ros.geometry import Camera
from pixloc_ros.localization import Localizer, Prior
from pixloc_ros.localization.map_set_server import resident_mb

REPORTS = 5
"""Rows of the table: after a hundredth of the queries, then after every quarter of them."""


@dataclass(frozen=True)
class Endured:
    """After so many queries: what the process and the device hold, MiB; of the queries since the
    row before, the median and the slowest, milliseconds, and those that were not localized.
    """

    queries: int
    host_mib: float
    device_mib: float
    median_ms: float
    worst_ms: float
    lost: int


def endure(
    localizer: Localizer, image: np.ndarray, camera: Camera, prior: Prior, count: int
) -> Iterator[Endured]:
    """Localize one image `count` times, every tenth time without the prior."""
    device = localizer.network.device
    ends = sorted({max(count // 100, 1), *(count * k // 4 for k in range(1, REPORTS)), count})
    done = 0
    for end in ends:
        if end <= done:
            continue
        times, lost = [], 0
        for number in range(done, end):
            result = localizer.localize(image, camera, prior if number % 10 else None)
            times.append(result.timings_ms["total"])
            lost += not result.ok
        done = end
        held = torch.cuda.memory_reserved(device) / 2**20 if device.type == "cuda" else 0.0
        yield Endured(
            done, resident_mb(), held, float(np.median(times)), float(np.max(times)), lost
        )
