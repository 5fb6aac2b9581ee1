"""`calibrate`: make the claimed covariances true."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pixloc_ros.cli.options import Parser, network_of, require_outputs
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.uncertainty import Claims, as_lines, fit, leave_one_out
from pixloc_ros.features import FeatureNetwork, read_image, read_training, save_network
from pixloc_ros.localization import Localizer, LocalizerOptions
from pixloc_ros.mapping import PixMap
from pixloc_ros.options import override


def run(arguments: Sequence[str]) -> int:
    parser = Parser(
        "calibrate",
        "Localize the references of maps without themselves and their neighbours, and fit the "
        "factors on the standard deviations that make the claimed covariances true.",
    )
    parser.add_argument("--map", action="append", required=True, metavar="FILE", help="repeatable")
    parser.add_argument(
        "--images", action="append", required=True, metavar="DIR", help="one for each --map"
    )
    parser.add_argument(
        "--gap",
        type=int,
        default=1,
        metavar="N",
        help="neighbours by name, before and after, that are left out (default 1)",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use every N-th image")
    parser.add_argument(
        "--output", required=True, metavar="FILE.pt", help="the weights, with the factors in them"
    )
    parser.add_network()
    parser.add_overrides()
    given = parser.parse_intermixed_args(arguments)
    options = override(LocalizerOptions(), given.overrides)
    if len(given.map) != len(given.images):
        raise InputError(f"{len(given.map)} --map and {len(given.images)} --images: one for each")
    if given.gap < 0 or given.every < 1:
        raise InputError("--gap is at least 0 and --every at least 1")
    require_outputs([given.output], [*given.map])
    network = network_of(given)
    network.sigma_factors = (1.0, 1.0)
    groups = [
        _claims(network, path, Path(images), options, given.gap, given.every)
        for path, images in zip(given.map, given.images, strict=True)
    ]
    factors = fit(groups)
    for path, claims in zip(given.map, groups, strict=True):
        print(f"{path}\n  before")
        print("\n".join(f"    {line}" for line in as_lines(claims)))
        print("  after")
        print("\n".join(f"    {line}" for line in as_lines(claims.scaled(*factors))))
    network.sigma_factors = factors
    save_network(network.cpu(), given.output, read_training(given.weights), half=True)
    print(
        f"standard deviations times {factors[0]:.4f} (translation) and {factors[1]:.4f} "
        f"(rotation) -> {given.output}"
    )
    return 0


def _claims(
    network: FeatureNetwork,
    path: str,
    images: Path,
    options: LocalizerOptions,
    gap: int,
    every: int,
) -> Claims:
    with PixMap(path) as pixmap:
        localizer = Localizer(pixmap, network, options)
        count = len(range(0, len(pixmap), every))
        with tqdm(total=count, unit="image", desc=Path(path).name) as bar:
            answers = leave_one_out(localizer, partial(_read, images), gap, every, bar.update)
    return Claims.of([(r.cam_from_map, r.covariance, truth) for r, truth in answers if r.ok])


def _read(folder: Path, name: str) -> np.ndarray:
    return read_image(folder / name)
