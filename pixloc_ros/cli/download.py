"""`download`: data sets, models and checkpoints, as the original project lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixloc_ros.cli.options import Parser
from pixloc_ros.datasets.benchmarks import LAYOUTS
from pixloc_ros.datasets.catalog import CMU_TRAINING, ROOTS, SELECTIONS, Source, sources
from pixloc_ros.datasets.transfer import fetch_file, file_name, files_below, unpack
from pixloc_ros.errors import InputError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


def make_parser() -> Parser:
    parser = Parser("download", "Get public data; what was interrupted goes on.")
    parser.add_argument("--select", nargs="+", required=True, choices=SELECTIONS)
    parser.add_argument("--CMU_slices", nargs="+", metavar="N", default=[], help="(default: all)")
    parser.add_argument("--training", action="store_true", help="also what is trained on")
    parser.add_argument("--data", metavar="DIR", default="datasets")
    parser.add_argument("--outputs", metavar="DIR", default="outputs")
    parser.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="a mirror for one of " + ", ".join(ROOTS),
    )
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_args(arguments)
    roots = dict(ROOTS)
    for entry in given.root:
        name, equals, url = entry.partition("=")
        if not equals or name not in roots or not url:
            raise InputError(f"--root {entry}: NAME=URL with one of {', '.join(roots)}")
        roots[name] = url if "?" in url or url.endswith("/") else url + "/"
    known = {*LAYOUTS["CMU"].parts, *CMU_TRAINING}
    strange = next((n for n in given.CMU_slices if n not in known), None)
    if strange is not None:
        raise InputError(f"--CMU_slices {strange}: no such slice")
    outputs = Path(given.outputs)
    areas = {
        "datasets": Path(given.data),
        "hloc": outputs / "hloc",
        "training": outputs / "training",
    }
    for selection in given.select:
        if selection == "MegaDepth":
            print(
                "MegaDepth's undistorted images and SfM models are behind a form: "
                "see github.com/mihaidusmanu/d2-net"
            )
        new = 0
        for source in sources(selection, given.CMU_slices, given.training):
            new += _get(source, roots[source.root], areas[source.area] / source.folder)
        print(f"{selection}: {new} files downloaded, the others were there")
    return 0


def _get(source: Source, root: str, folder: Path) -> int:
    """How many files of a source were not there."""
    address = root + source.path
    if source.path.endswith("/"):
        files = [(url, folder / name) for url, name in files_below(address, source.without)]
    else:
        files = [(address, folder / (source.name or file_name(address)))]
    new = 0
    for url, target in files:
        archive = source.unpacked and target.name.endswith(ARCHIVES)
        # an archive goes when it is unpacked: this stays
        marker = target.with_name(target.name + ".unpacked")
        if archive and marker.is_file():
            continue
        new += fetch_file(url, target)
        if archive:
            unpack(target, target.parent)
            for inner in sorted((target.parent / target.name.split(".")[0]).glob("*.zip")):
                unpack(inner, inner.parent)
            marker.touch()
    return new
