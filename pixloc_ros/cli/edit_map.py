"""`edit_map`: maps out of maps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pixloc_ros import __version__
from pixloc_ros.cli.options import Parser, require_outputs
from pixloc_ros.errors import InputError
from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.editing import merge, usefulness, write_part
from pixloc_ros.mapping.schema import SUFFIX
from pixloc_ros.mapping.sparse_model import subset, write_colmap


def make_parser() -> Parser:
    parser = Parser("edit_map", "Write a map with more, or less, than there was.")
    parser.add_argument("map", metavar=f"MAP{SUFFIX}")
    parser.add_argument("--output", metavar=f"FILE{SUFFIX}")
    parser.add_argument("--colmap", metavar="DIR", help="write a COLMAP model of it")
    parser.add_argument(
        "--add", nargs="+", default=[], metavar="MAP", help="others of the place, in its frame"
    )
    parser.add_argument(
        "--remove", nargs="+", default=[], metavar="NAME", help="references, or folders of them"
    )
    parser.add_argument(
        "--keep-points", type=float, default=1.0, metavar="SHARE", help="those that help most"
    )
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_args(arguments)
    if not 0 < given.keep_points <= 1:
        raise InputError(f"--keep-points {given.keep_points}: a share above 0, up to 1")
    if not (given.output or given.colmap):
        raise InputError(f"give --output FILE{SUFFIX}, --colmap DIR, or both")
    if given.output and not given.output.endswith(SUFFIX):
        raise InputError(f"{given.output}: the name of a map file ends in {SUFFIX}")
    require_outputs([given.output], [given.map, *given.add])
    beside = Path(given.output or given.colmap).resolve().parent
    if not beside.is_dir():
        raise InputError(f"{beside}: no such folder to write to")
    with ExitStack() as stack:
        pixmap = stack.enter_context(PixMap(given.map))
        if given.add:
            others = [stack.enter_context(PixMap(path)) for path in given.add]
            folder = Path(stack.enter_context(TemporaryDirectory(dir=beside)))
            joined = folder / f"joined{SUFFIX}"
            merge([pixmap, *others], joined)
            pixmap = stack.enter_context(PixMap(joined))
        names = pixmap.names
        references = np.ones(len(names), bool)
        for word in given.remove:
            gone = [name == word or name.startswith(word.rstrip("/") + "/") for name in names]
            if not any(gone):
                raise InputError(f"--remove {word}: no such reference in {given.map}")
            references &= ~np.array(gone)
        points = np.ones(pixmap.point_count, bool)
        if given.keep_points < 1:
            count = max(round(given.keep_points * len(points)), 1)
            points[np.argsort(-usefulness(pixmap), kind="stable")[count:]] = False
        step = {
            "step": "edit_map",
            "version": __version__,
            "removed": given.remove,
            "keep_points": given.keep_points,
        }
        changed = given.remove or given.keep_points < 1
        if given.colmap:
            write_colmap(subset(pixmap.model, references, points), given.colmap)
            print(f"{given.colmap}: a COLMAP model of {references.sum()} images")
        if not given.output:
            return 0
        write_part(pixmap, given.output, references, points, [step] if changed else [])
    with PixMap(given.output) as written:
        size = Path(given.output).stat().st_size / 2**20
        print(
            f"{given.output}: {len(written)} references, {written.point_count} points, "
            f"{written.observation_count} observations, {size:.1f} MB"
        )
    return 0
