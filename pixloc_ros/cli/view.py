"""`view`: a map, a recorded run, or a running node in the web browser."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pixloc_ros.cli.options import Parser
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.map_ageing import age_by
from pixloc_ros.localization import RunFile
from pixloc_ros.localization.run_file import SUFFIX as RUN_SUFFIX
from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.health import MapHealth, health_path
from pixloc_ros.visualization.viewer import Viewer


def make_parser() -> Parser:
    parser = Parser("view", "Look at a map or at a recorded run, in the web browser.")
    parser.add_argument("file", metavar="FILE", help=f"a .pixmap.h5, or a {RUN_SUFFIX}")
    parser.add_argument("--map", metavar="FILE", help="of the run (default: the one it names)")
    parser.add_argument("--images", metavar="DIR", help="pictures of the references")
    parser.add_argument(
        "--follow", action="store_true", help="the run is being recorded: show what comes"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: this machine only; 0.0.0.0 for everybody)",
    )
    parser.add_argument("--port", type=int, default=8080, help="(default: 8080; 0: a free one)")
    parser.add_argument(
        "--points", type=int, default=1_000_000, metavar="N", help="most points that are sent"
    )
    parser.add_argument("--dark", action="store_true")
    parser.add_argument(
        "--health", action="store_true", help="colour the references by what drives found"
    )
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_args(arguments)
    if not 0 <= given.port < 65536:
        raise InputError(f"--port {given.port}: 0 to 65535")
    if given.points < 1:
        raise InputError(f"--points {given.points}: at least 1")
    if given.images and not Path(given.images).is_dir():
        raise InputError(f"{given.images}: no such folder of images")
    is_run = given.file.endswith(RUN_SUFFIX)
    if not is_run and (given.map or given.follow):
        raise InputError(f"{given.file}: --map and --follow are for a {RUN_SUFFIX}")
    with ExitStack() as stack:
        recorded = stack.enter_context(RunFile(given.file)) if is_run else None
        chosen = given.file if recorded is None else given.map or recorded.map_path
        pixmap = stack.enter_context(PixMap(chosen))
        if recorded is not None and not (given.follow or len(recorded)):
            raise InputError(f"{given.file}: the run holds no frame")
        ages = []
        if given.health:
            health = stack.enter_context(MapHealth(pixmap, health_path(pixmap.path)))
            ages = [age.value for age in age_by(health, pixmap).ages]
        viewer = Viewer(
            pixmap,
            recorded,
            Path(given.images) if given.images else None,
            given.points,
            given.host,
            given.port,
            given.dark,
            given.follow,
            ages,
        )
        stack.callback(viewer.close)
        print(f"{given.file} on {viewer.address}, until Ctrl-C", flush=True)
        viewer.wait()
    return 0
