"""Whether the fast way on a device gives the poses of the plain way and of the processor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pixloc_ros.features import FeatureNetwork
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import Localizer, Prior

STARTS = 10
"""Priors that are compared, spread about the pose by `SPREAD_M` and `SPREAD_DEG`."""
SPREAD_M, SPREAD_DEG = 0.05, 1.0


@dataclass(frozen=True)
class Agreement:
    """Largest distance between the poses of two ways from the same priors.

    told_apart: priors that one of the two ways refused and the other did not.
    """

    what: str
    metres: float
    degrees: float
    compared: int
    told_apart: int


def _poses(
    localizer: Localizer, image: np.ndarray, camera: Camera, priors: list[Prior], plain: bool
) -> list[Pose | None]:
    if plain:
        localizer = localizer.traced()  # what tells every step is plain torch
    return [
        localizer.localize(image, camera, prior, search=False).cam_from_map for prior in priors
    ]


def _compare(what: str, ours: list[Pose | None], theirs: list[Pose | None]) -> Agreement:
    metres, degrees, compared, apart = 0.0, 0.0, 0, 0
    for a, b in zip(ours, theirs, strict=True):
        if a is None or b is None:
            apart += (a is None) != (b is None)
            continue
        m, radians = a.distance(b)
        metres, degrees = max(metres, float(m)), max(degrees, float(torch.rad2deg(radians)))
        compared += 1
    return Agreement(what, metres, degrees, compared, apart)


def agreements(
    localizer: Localizer,
    network: FeatureNetwork,
    image: np.ndarray,
    camera: Camera,
    truth: Pose,
) -> list[Agreement]:
    """Fused kernels beside plain torch on the same device, and the device beside the processor.

    network: the localizer's, on the processor. truth: cam_from_map that priors are spread about.
    """
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([SPREAD_M] * 3 + [np.radians(SPREAD_DEG)] * 3) / 3**0.5
    moves = torch.randn(STARTS, 6, generator=generator, dtype=torch.float64) * spread
    priors = [Prior(truth.perturb(move)) for move in moves]
    fused = _poses(localizer, image, camera, priors, plain=False)
    plain = _poses(localizer, image, camera, priors, plain=True)
    answer = [_compare("fused kernels, plain torch", fused, plain)]
    if localizer.network.device.type != "cpu":
        there = Localizer(localizer.map, network, localizer.options, localizer.cache_mb)
        on_cpu = _poses(there, image, camera, priors, plain=False)
        answer.append(_compare("the device, the processor", fused, on_cpu))
    return answer
