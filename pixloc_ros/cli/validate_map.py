"""`validate_map`: check a map file whole and say what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pixloc_ros.cli.options import Parser, network_of
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.map_quality import map_quality
from pixloc_ros.localization import Localizer
from pixloc_ros.localization.gating import InlierModel
from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.sessions import day_of


def make_parser() -> Parser:
    parser = Parser("validate_map", "Check a map file whole and say what is in it.")
    parser.add_argument("map", metavar="FILE", help="map file (.pixmap.h5)")
    parser.add_argument(
        "--images", metavar="DIR", help="also localize the references against each other"
    )
    parser.add_network()
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_args(arguments)
    with PixMap(given.map) as pixmap:
        pixmap.verify()
        header, points = pixmap.header, pixmap.point_count
        extent = " x ".join(f"{v:.2f}" for v in np.ptp(pixmap.centres(), axis=0))
        print(f"{given.map}: valid")
        for step in pixmap.provenance:
            facts = ", ".join(f"{k} {v}" for k, v in step.items() if k != "step")
            print(f"  made        {step.get('step', '?')}: {facts}")
        print(f"  network     {header.architecture} {header.weights_hash[:12]}")
        print(f"  references  {len(pixmap)} with {len(pixmap.cameras)} cameras, over {extent} m")
        print(
            f"  points      {points}, {pixmap.observation_count} observations, "
            f"{pixmap.observation_count / max(points, 1):.1f} a point"
        )
        for number, session in enumerate(pixmap.sessions.every):
            count = int((pixmap.sessions.of == number).sum())
            when = "" if session.begun is None else f", begun {day_of(session.begun)}"
            print(f"  session     {session.name or 'of no name'}: {count} references{when}")
        print(f"  descriptor  {pixmap.descriptor_width} numbers")
        if pixmap.places is not None:
            anchors, width = pixmap.places.anchors.shape[1], pixmap.places.projection.shape[1]
            print(f"  places      {width} numbers, by {anchors} anchors of its own")
        if pixmap.calibration is not None:
            factors = " and ".join(f"{factor:g}" for factor in pixmap.calibration)
            print(f"  calibrated  standard deviations of patches times {factors}")
        for level, statistics in zip(header.levels, pixmap.statistics, strict=True):
            inliers = InlierModel.of(statistics)
            print(
                f"  level       image {level.image_size} px, network level {level.network_level}: "
                f"{inliers.matching:.0%} of matching and {inliers.unrelated:.0%} of unrelated "
                "residuals count as inliers"
            )
        if given.images:
            localizer = Localizer(pixmap, network_of(given))
            with tqdm(unit="image", desc="checking") as bar:
                quality = map_quality(localizer, Path(given.images), progress=bar.update)
            print(quality.as_text())
            if not quality.usable:
                raise InputError(
                    f"{given.map}: less than half of the references are found by the others"
                )
    return 0
