"""`calibrate`: make the covariances that a map's answers claim true."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pixloc_ros.cli.options import Parser, network_of
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.uncertainty import Claims, as_lines, fit, leave_one_out
from pixloc_ros.features import FeatureNetwork, read_image
from pixloc_ros.localization import Localizer, LocalizerOptions
from pixloc_ros.localization.judging import PATCH_FACTORS
from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.calibration import write_calibration
from pixloc_ros.options import override


def make_parser() -> Parser:
    parser = Parser(
        "calibrate",
        "Localize the references of a map without themselves and their neighbours, fit the "
        "factors on the standard deviations that make the claimed covariances true, and write "
        "them into the map. build_map does so with each reference left out alone.",
    )
    parser.add_argument("--map", required=True, metavar="FILE")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of the references")
    parser.add_argument(
        "--gap",
        type=int,
        default=1,
        metavar="N",
        help="neighbours by name, before and after, that are left out (default 1)",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use every N-th image")
    parser.add_network()
    parser.add_overrides()
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_intermixed_args(arguments)
    options = override(LocalizerOptions(), given.overrides)
    if given.gap < 0 or given.every < 1:
        raise InputError("--gap is at least 0 and --every at least 1")
    path = Path(given.map)
    claims, before = _claims(
        network_of(given), path, Path(given.images), options, given.gap, given.every
    )
    factors = fit(claims)
    print("  before")
    print("\n".join(f"    {line}" for line in as_lines(claims.scaled(*before))))
    print("  after")
    print("\n".join(f"    {line}" for line in as_lines(claims.scaled(*factors))))
    write_calibration(path, factors)
    print(
        f"standard deviations times {factors[0]:.3g} (translation) and {factors[1]:.3g} "
        f"(rotation) -> {path}"
    )
    return 0


def _claims(
    network: FeatureNetwork,
    path: Path,
    images: Path,
    options: LocalizerOptions,
    gap: int,
    every: int,
) -> tuple[Claims, tuple[float, float]]:
    """What is claimed without factors, and the factors that the map has now."""
    with PixMap(path) as pixmap:
        if not pixmap.has_patches:
            raise InputError(f"{path}: made by a version without patches; build it again")
        localizer = Localizer(pixmap, network, options)
        count = len(range(0, len(pixmap), every))
        with tqdm(total=count, unit="image", desc=path.name) as bar:
            answers = leave_one_out(localizer, partial(_read, images), gap, every, bar.update)
        factors = pixmap.calibration or PATCH_FACTORS
    claims = Claims.of_patches(answers)
    return claims.scaled(1 / factors[0], 1 / factors[1]), factors


def _read(folder: Path, name: str) -> np.ndarray:
    return read_image(folder / name)
