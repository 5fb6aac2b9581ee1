"""`basin`: how far off a prior may be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tqdm import tqdm

from pixloc_ros.cli.options import Parser, network_of, require_outputs
from pixloc_ros.datasets import read_poses, read_queries, write_text
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.basin import STARTS, basin
from pixloc_ros.features import read_image
from pixloc_ros.localization import Localizer, LocalizerOptions
from pixloc_ros.mapping import PixMap
from pixloc_ros.options import override
from pixloc_ros.visualization.curves import plot_basin


def make_parser() -> Parser:
    parser = Parser("basin", "Success of alignment against the error of its start.")
    parser.add_argument("--map", required=True, metavar="FILE", help="map file (.pixmap.h5)")
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument("--queries", required=True, metavar="FILE")
    parser.add_argument("--ground-truth", required=True, metavar="FILE")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use every N-th query")
    parser.add_argument(
        "--unit", type=float, default=1.0, metavar="M", help="factor on the metres of starts"
    )
    parser.add_argument("--label", default="", help="name of the curve")
    parser.add_argument("--json", required=True, metavar="FILE")
    parser.add_argument("--plot", metavar="FILE.png")
    parser.add_argument(
        "--against", action="append", default=[], metavar="FILE", help="an earlier --json"
    )
    parser.add_network()
    parser.add_overrides()
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_intermixed_args(arguments)
    options = override(LocalizerOptions(), given.overrides)
    inputs = [given.map, given.queries, given.ground_truth, given.weights, *given.against]
    require_outputs([given.json, given.plot], inputs)
    if given.every < 1 or not given.unit > 0:
        raise InputError("--every is at least 1 and --unit positive")
    queries, truth = read_queries(given.queries), read_poses(given.ground_truth)
    known = [name for name in queries if name in truth][:: given.every]
    if not known:
        raise InputError(f"{given.ground_truth}: knows none of the queries")
    curves = [_read_curve(path) for path in given.against]
    with PixMap(given.map) as pixmap:
        localizer = Localizer(pixmap, network_of(given), options)
        folder = Path(given.images)
        with tqdm(total=len(known) * len(STARTS), unit="start", desc="aligning") as bar:
            points = basin(
                localizer,
                ((partial(read_image, folder / n), queries[n], truth[n]) for n in known),
                (0.05, 5.0),
                given.unit,
                progress=bar.update,
            )
    label = given.label or Path(given.map).name
    curve = {"label": label, "points": [asdict(p) for p in points]}
    write_text(given.json, json.dumps(curve, indent=1) + "\n")
    if given.plot:
        plot_basin([*curves, curve], given.plot)
    print(f"{'start':>16}  {'found':>6}  {'accepted':>8}   ({len(known)} queries)")
    for point in points:
        start = f"{point.degrees:g} deg {point.metres:.3g} m"
        print(f"{start:>16}  {point.found:6.1%}  {point.accepted:8.1%}")
    return 0


def _read_curve(path: str) -> dict:
    try:
        curve = json.loads(Path(path).read_text())
        if isinstance(curve["label"], str) and all("found" in p for p in curve["points"]):
            return curve
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{path}: not what basin --json writes")
