"""`map_health`: where a map has aged, from what drives found of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixloc_ros.cli.options import Parser, require_outputs
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.map_ageing import age_by
from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.fleet import join_by_cluster
from pixloc_ros.mapping.health import MapHealth, health_path, robot_name
from pixloc_ros.visualization.ageing import plot_ages

SHOWN = 200_000


def make_parser() -> Parser:
    parser = Parser(
        "map_health",
        "Say where a map has aged, by what the node kept beside it (parameter learn). Exit code 1 "
        "where a part of it cannot be used any more.",
    )
    parser.add_argument("map", metavar="FILE", help="map file (.pixmap.h5)")
    parser.add_argument(
        "--health", metavar="FILE", help="what drives found (default: beside the map)"
    )
    parser.add_argument(
        "--join", nargs="+", default=[], metavar="FILE", help="add what other robots found"
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS", default="", help="join by the processes of a Ray cluster"
    )
    parser.add_argument(
        "--processes", type=int, default=4, metavar="N", help="of the cluster (default 4)"
    )
    parser.add_argument("--picture", metavar="FILE", help="the map from above (png, svg, pdf)")
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_args(arguments)
    require_outputs([given.picture], [given.map])
    if given.ray and not given.join:
        raise InputError("--ray goes with --join")
    if not 1 <= given.processes <= 1024:
        raise InputError(f"--processes {given.processes}: 1 to 1024")
    with PixMap(given.map) as pixmap:
        path = Path(given.health) if given.health else health_path(pixmap.path)
        writer = robot_name() if given.join else None
        with MapHealth(pixmap, path, writer) as health:
            others = [Path(other) for other in given.join]
            if given.ray:
                join_by_cluster(health, pixmap.path, others, given.processes, given.ray)
            else:
                for other in others:
                    health.join(other)
            age, frames = age_by(health, pixmap), health.frames()
        print(f"{path}: {frames} frames")
        print(age.as_text(pixmap.names))
        if given.picture:
            plot_ages(
                given.picture,
                pixmap.some_points(SHOWN),
                pixmap.xyz(age.gone.nonzero()[0]),
                pixmap.centres(),
                pixmap.poses.rotation[:, 2].numpy(),
                [own.value for own in age.ages],
                f"{pixmap.path.name}: {frames} frames",
            )
            print(f"picture: {given.picture}")
    return 0 if age.usable else 1
