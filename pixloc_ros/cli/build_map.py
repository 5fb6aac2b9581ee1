"""`build_map`: COLMAP model + images -> one map file."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from pixloc_ros.cli.options import Parser, network_of, require_outputs
from pixloc_ros.errors import InputError
from pixloc_ros.features import PyramidLevel
from pixloc_ros.mapping import build_map, read_colmap


def _levels(text: str, count: int) -> list[PyramidLevel]:
    levels = []
    for part in text.split(","):
        size, _, number = part.partition(":")
        if not (size.isdecimal() and number.isdecimal() and int(size) >= 32):
            raise InputError(f"--levels {part!r}: expected SIZE:LEVEL with a size from 32")
        if int(number) >= count:
            raise InputError(f"--levels {part!r}: the network has levels 0 to {count - 1}")
        levels.append(PyramidLevel(int(size), int(number)))
    return levels


def run(arguments: Sequence[str]) -> int:
    parser = Parser("build_map", "Build a map file from a COLMAP model and its images.")
    parser.add_argument(
        "--colmap", required=True, metavar="DIR", help="model folder (.bin or .txt)"
    )
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of its images")
    parser.add_argument("--output", required=True, metavar="FILE.pixmap.h5")
    parser.add_argument(
        "--min-track-length",
        type=int,
        default=3,
        metavar="N",
        help="keep points that at least N references see (default 3)",
    )
    parser.add_argument(
        "--levels",
        metavar="SIZE:LEVEL,...",
        help="steps of alignment, coarse to fine: longest image side and level of the network "
        "(default: the network's own)",
    )
    parser.add_network()
    given = parser.parse_args(arguments)
    require_outputs([given.output], [given.weights])
    if given.min_track_length < 1:
        raise InputError(f"--min-track-length {given.min_track_length}: at least 1")
    model = read_colmap(given.colmap)
    network = network_of(given)
    levels = _levels(given.levels, len(network.strides)) if given.levels else None
    with tqdm(total=len(model.names), unit="image", desc="building") as bar:
        summary = build_map(
            model,
            given.images,
            given.output,
            network,
            levels,
            min_track_length=given.min_track_length,
            progress=lambda done, total: bar.update(done - bar.n),
        )
    print(
        f"{given.output}: {summary.references} references, {summary.points} points, "
        f"{summary.observations} observations ({summary.dropped_observations} outside their "
        f"image), {summary.megabytes:.1f} MB"
    )
    return 0
