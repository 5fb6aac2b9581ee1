"""What the work needs, what this machine can do, and how much of that is reached."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pixloc_ros.alignment import LMOptions
from pixloc_ros.features import extract_pyramid
from pixloc_ros.geometry import Camera
from pixloc_ros.localization import Localizer, Prior

MULTIPLIES = 31
"""Multiply-adds a channel of a point takes: value and gradient by 8 and 16, products by 7."""
CELLS = 12
"""Cells of the query map that the value and gradient at a point depend on."""


@dataclass(frozen=True)
class Ceilings:
    """bandwidth: bytes copied, read plus written, a second. operations: of a matrix product in
    the network's precision, `vector` of one in single precision, a second.
    """

    bandwidth: float
    operations: float
    vector: float


@dataclass(frozen=True)
class Share:
    """One kind of work. floor_ms: what the ceilings allow; ms: median of the repeats."""

    work: str
    bytes: float
    operations: float
    floor_ms: float
    ms: float

    @property
    def reached(self) -> float:
        return self.floor_ms / self.ms


def seconds(device: torch.device, work: Callable[[], object], repeats: int) -> float:
    """Median wall time, the device waited for, after two runs that do not count."""
    times = []
    for number in range(repeats + 2):
        _wait(device)
        begun = time.perf_counter()
        work()
        _wait(device)
        if number >= 2:
            times.append(time.perf_counter() - begun)
    return float(np.median(times))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copied(device: torch.device, size: int, repeats: int) -> float:
    """Bytes a second, read plus written, of copying from and to `size` bytes in all."""
    source = torch.ones(max(size // 8, 1), device=device)
    target = torch.empty_like(source)
    # so often that the clock can tell
    times = max(2**24 // size, 1)

    def work() -> None:
        for _ in range(times):
            target.copy_(source)

    return 2 * source.nbytes * times / seconds(device, work, repeats)


def ceilings(device: torch.device, dtype: torch.dtype, repeats: int) -> Ceilings:
    """Measured with a copy too large for any cache and with a large matrix product.

    dtype: of the network.
    """
    big = device.type == "cuda"

    def product(dtype: torch.dtype) -> float:
        side = 8192 if big else 1024
        left = torch.randn(side, side, device=device).to(dtype)
        return 2 * side**3 / seconds(device, lambda: left @ left, repeats)

    return Ceilings(
        bandwidth=copied(device, 2**31 if big else 2**28, repeats),
        operations=product(dtype),
        vector=product(torch.float32),
    )


def _network(localizer: Localizer, image: np.ndarray, limits: Ceilings, repeats: int) -> Share:
    with FlopCounterMode(display=False) as counter:  # a graph that is replayed tells nothing
        extract_pyramid(localizer.network, image, localizer.map.header.levels)
    operations = float(counter.get_total_flops())
    ms = 1e3 * seconds(localizer.network.device, lambda: localizer.extract(image), repeats)
    # weights once, and the maps that come out
    pyramid = localizer.extract(image)
    maps: list[Tensor] = [level.features for level in pyramid.levels]
    moved = float(
        sum(m.nbytes for m in maps) + sum(p.nbytes for p in localizer.network.parameters())
    )
    floor = max(operations / limits.operations, moved / limits.bandwidth)
    return Share("network", moved, operations, 1e3 * floor, ms)


def _iteration(
    localizer: Localizer, image: np.ndarray, camera: Camera, limits: Ceilings, repeats: int
) -> Share:
    """One iteration at the mean of all levels: the difference of two numbers of them."""
    found = localizer.localize(image, camera)
    prior = Prior(found.cam_from_map)
    times = []
    counts = (5, 25)
    for iterations in counts:
        options = replace(localizer.options, lm=LMOptions(iterations, tolerance=0.0))
        fixed = Localizer(localizer.map, localizer.network, options)
        runs = [fixed.localize(image, camera, prior, search=False) for _ in range(repeats + 2)]
        times.append(float(np.median([run.timings_ms["align"] for run in runs[2:]])))
    levels = localizer.map.widths
    # hypotheses of a prior: one at the first level, then those that are kept and the prior
    hypotheses = [min(number, 2) + 1 for number in range(len(levels))]
    hypotheses[-1] = hypotheses[max(len(levels) - 2, 0)]
    points = found.statistics.points
    rows = sum(h * c for h, c in zip(hypotheses, levels, strict=True))
    size = 2 if localizer.network.device.type == "cuda" else 4
    # hypotheses look at nearly the same cells; no more of them than the map has
    maps = localizer.extract(image).levels
    cells = [min(CELLS * points, m.confidence.nelement()) + points for m in maps]
    moved = float(sum(n * c for n, c in zip(cells, levels, strict=True)) * size)
    operations = float(2 * MULTIPLIES * points * rows)
    ms = (times[1] - times[0]) / (counts[1] - counts[0])
    # what is read again in every iteration stays in a cache where it fits: so does such a copy
    reach = copied(localizer.network.device, int(moved), repeats)
    floor = max(operations / limits.vector, moved / reach)
    return Share("an iteration at every level", moved, operations, 1e3 * floor, ms)


def shares(
    localizer: Localizer, image: np.ndarray, camera: Camera, repeats: int
) -> tuple[Ceilings, list[Share]]:
    """The network and the inner loop of a query that is localized."""
    limits = ceilings(localizer.network.device, localizer.extract.dtype, repeats)
    return limits, [
        _network(localizer, image, limits, repeats),
        _iteration(localizer, image, camera, limits, repeats),
    ]
