"""How well a map localizes: each of its references against all the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pixloc_ros.evaluation.uncertainty import FEWEST, Claims, fit
from pixloc_ros.features import read_image
from pixloc_ros.localization import Localizer
from pixloc_ros.localization.judging import PATCH_FACTORS

TRIED = 200
"""References that are localized; of more, an even choice."""

FOUND_PX = 5.0
"""Median distance of reprojected points, in pixels, up to which a reference is found: about what
PnP with good matches leaves, whatever the size of the place."""

USABLE = 0.5
"""Share of the references that must be found in a map that can be used."""


@dataclass(frozen=True)
class MapQuality:
    """tried: references that were localized without themselves. found: how many of them came out
    where they are; wrong: believed elsewhere. median_m, median_deg: of those that were found.
    weak: the others, with the reason and where they stand (3,).
    factors: on the standard deviations, as `uncertainty.fit` finds them, None where too few were
    found to say.
    """

    tried: int
    found: int
    wrong: int
    median_m: float
    median_deg: float
    weak: tuple[tuple[str, str, tuple[float, float, float]], ...]
    factors: tuple[float, float] | None = None

    @property
    def usable(self) -> bool:
        return self.found >= USABLE * self.tried

    def as_text(self) -> str:
        share = self.found / max(self.tried, 1)
        lines = [
            f"{self.found} of {self.tried} references ({share:.0%}) are found by the others, "
            f"median {self.median_m:.4f} m {self.median_deg:.3f} deg, {self.wrong} believed "
            "elsewhere"
        ]
        for name, reason, (x, y, z) in self.weak[:10]:
            lines.append(f"  weak at {x:.2f} {y:.2f} {z:.2f}, {name}: {reason}")
        if len(self.weak) > 10:
            lines.append(f"  and {len(self.weak) - 10} more")
        return "\n".join(lines)


def map_quality(
    localizer: Localizer, *images: Path, progress: Callable[[], object] = lambda: None
) -> MapQuality:
    """Localize references without a prior, each left out of the map meanwhile.

    images: folders of the references. Raises ImageError for one that cannot be read.
    """
    pixmap = localizer.map
    count = len(pixmap)
    chosen = np.unique(np.linspace(0, count - 1, min(count, TRIED)).astype(int)).tolist()
    metres, degrees, weak, wrong = [], [], [], 0
    found = []
    for number in chosen:
        name = pixmap.names[number]
        camera = pixmap.camera(number)
        truth = pixmap.pose(number)
        others = localizer.leaving_out([number])
        file = next((f for f in images if (f / name).is_file()), images[0]) / name
        result = others.localize(read_image(file), camera)
        progress()
        reason = result.reason
        if result.ok:
            points = pixmap.reference(number).xyz
            (one, here), (two, there) = (
                camera.project(pose.transform(points)) for pose in (truth, result.cam_from_map)
            )
            apart = (one - two).norm(dim=-1)[here & there]
            if len(apart) and float(apart.median()) <= FOUND_PX:
                away, angle = result.cam_from_map.distance(truth)
                found.append((result, truth))
                metres.append(float(away))
                degrees.append(float(torch.rad2deg(angle)))
                continue
            wrong += 1
            reason = "believed elsewhere"
        place = truth.inverse().translation.tolist()
        weak.append((name, reason, (place[0], place[1], place[2])))
    return MapQuality(
        len(chosen),
        len(metres),
        wrong,
        float(np.median(metres)) if metres else float("nan"),
        float(np.median(degrees)) if degrees else float("nan"),
        tuple(weak),
        _factors(localizer, Claims.of_patches(found)),
    )


def _factors(localizer: Localizer, claims: Claims) -> tuple[float, float] | None:
    if len(claims) < FEWEST:
        return None
    before = localizer.map.calibration or PATCH_FACTORS
    return fit(claims.scaled(1 / before[0], 1 / before[1]))
