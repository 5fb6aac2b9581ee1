"""`validate_map`: check a map file whole and say what is in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pixloc_ros.cli.options import Parser
from pixloc_ros.localization.gating import InlierModel
from pixloc_ros.mapping import PixMap


def run(arguments: Sequence[str]) -> int:
    parser = Parser("validate_map", "Check a map file whole and say what is in it.")
    parser.add_argument("map", metavar="FILE", help="map file (.pixmap.h5)")
    given = parser.parse_args(arguments)
    with PixMap(given.map) as pixmap:
        pixmap.verify()
        model, header = pixmap.model, pixmap.header
        centres = pixmap.poses.inverse().translation.numpy()
        extent = " x ".join(f"{v:.2f}" for v in np.ptp(centres, axis=0))
        print(f"{given.map}: valid")
        print(f"  network     {header.architecture} {header.weights_hash[:12]}")
        print(f"  references  {len(pixmap)} with {len(model.cameras)} cameras, over {extent} m")
        print(
            f"  points      {len(model.points)}, {len(model.observed)} observations, "
            f"{len(model.observed) / max(len(model.points), 1):.1f} a point"
        )
        print(f"  descriptor  {pixmap.descriptors.shape[1]} numbers")
        for level, statistics in zip(header.levels, pixmap.statistics, strict=True):
            inliers = InlierModel.of(statistics)
            print(
                f"  level       image {level.image_size} px, network level {level.network_level}: "
                f"{inliers.matching:.0%} of matching and {inliers.unrelated:.0%} of unrelated "
                "residuals count as inliers"
            )
    return 0
