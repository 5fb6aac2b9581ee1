"""`bench`: the speed of each stage on this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pixloc_ros.cli.options import Parser, network_of, require_outputs
from pixloc_ros.datasets import write_text
from pixloc_ros.datasets.rendered_room import render_room
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.bench import measure
from pixloc_ros.features import FeatureNetwork, read_image
from pixloc_ros.localization import Localizer, LocalizerOptions
from pixloc_ros.mapping import PixMap, build_map, read_colmap
from pixloc_ros.options import override


def _rendered(folder: Path, network: FeatureNetwork) -> tuple[Path, Path]:
    """A small map and a query image of the rendered room."""
    render_room(folder, seconds=0.1, references=16, mapped=8.0)
    map_file = folder / "room.pixmap.h5"
    build_map(read_colmap(folder / "sparse"), folder / "images", map_file, network)
    return map_file, folder / "images/query/0000.jpg"


def run(arguments: Sequence[str]) -> int:
    parser = Parser("bench", "Time each stage of localization on this machine.")
    parser.add_argument("--map", metavar="FILE", help="map file (default: a rendered room)")
    parser.add_argument(
        "--image", metavar="FILE", help="query, taken with a camera of the map's references"
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers")
    parser.add_argument("--repeats", type=int, default=15, metavar="N", help="(default 15)")
    parser.add_network()
    parser.add_overrides()
    given = parser.parse_intermixed_args(arguments)
    options = override(LocalizerOptions(), given.overrides)
    if bool(given.map) != bool(given.image):
        raise InputError("--map and --image go together")
    require_outputs([given.json], [given.map, given.image, given.weights])
    if given.repeats < 1:
        raise InputError(f"--repeats {given.repeats}: at least one")
    network = network_of(given)
    with tempfile.TemporaryDirectory() as folder:
        map_file, image_file = (
            (given.map, given.image) if given.map else _rendered(Path(folder), network)
        )
        with PixMap(map_file) as pixmap:
            image = read_image(image_file)
            size = [float(image.shape[1]), float(image.shape[0])]
            camera = next((c for c in pixmap.cameras if c.size.tolist() == size), None)
            if camera is None:
                raise InputError(
                    f"{image_file}: {size[0]:g} x {size[1]:g} pixels, no camera of the map is so"
                )
            facts, timings = measure(
                Localizer(pixmap, network, options), image, camera, given.repeats
            )
    for key, value in facts.items():
        print(f"{key:>14}  {value}")
    for name, stages in timings.items():
        print(f"\n{name:>14}  {'median ms':>10}  {'p95 ms':>10}")
        for timing in stages:
            print(f"{timing.stage:>14}  {timing.median:10.1f}  {timing.p95:10.1f}")
    if given.json:
        content = facts | {n: [asdict(t) for t in stages] for n, stages in timings.items()}
        write_text(given.json, json.dumps(content, indent=1) + "\n")
    return 0
