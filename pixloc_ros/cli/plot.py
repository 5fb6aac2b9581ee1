"""`plot`: pictures of a recorded run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixloc_ros.cli.options import Parser, network_of
from pixloc_ros.datasets import read_poses
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation import PoseErrors
from pixloc_ros.features import ImageError, read_image
from pixloc_ros.localization import RunFile
from pixloc_ros.mapping import PixMap
from pixloc_ros.visualization.curves import plot_starts
from pixloc_ros.visualization.features import plot_features
from pixloc_ros.visualization.frames import (
    plot_convergence,
    plot_reprojections,
    plot_scene,
    supporters,
)


def make_parser() -> Parser:
    parser = Parser("plot", "Draw what `localize --record` kept: a few pictures of each query.")
    parser.add_argument("run", metavar="RUN.pixrun")
    parser.add_argument("--output", required=True, metavar="DIR", help="made where it is missing")
    parser.add_argument("--query", nargs="+", metavar="NAME", help="(default: the first three)")
    parser.add_argument("--map", metavar="FILE", help="(default: the one that was used)")
    parser.add_argument("--images", metavar="DIR", help="of the references, shown beside queries")
    parser.add_argument(
        "--ground-truth", metavar="FILE", help="also errors of answers against those of starts"
    )
    parser.add_argument("--format", choices=("png", "svg", "pdf"), default="png")
    parser.add_network()
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_args(arguments)
    output = Path(given.output)
    network = network_of(given)
    with RunFile(given.run) as recorded, PixMap(given.map or recorded.map_path) as pixmap:
        pixmap.require(network)
        frames = {frame.name: frame for frame in (recorded[i] for i in range(len(recorded)))}
        wanted = given.query or list(frames)[:3]
        stranger = next((name for name in wanted if name not in frames), None)
        if stranger is not None:
            raise InputError(f"--query {stranger}: not in {given.run}")
        truth = read_poses(given.ground_truth) if given.ground_truth else {}
        moved = {n: f for n, f in frames.items() if f.trace is not None and n in truth}
        if given.ground_truth and not moved:
            raise InputError(f"{given.ground_truth}: names no query that was aligned")
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{output}: {error.strerror or error}") from None
        for name in wanted:
            frame, stem = frames[name], name.replace("/", "_").rsplit(".", 1)[0]

            def file(kind: str, stem: str = stem) -> Path:
                return output / f"{stem}_{kind}.{given.format}"

            plot_features(network, frame.views[0].image, pixmap.header.levels, file("features"))
            if frame.trace is None:
                print(f"{name}: nothing was aligned ({frame.facts['reason']})")
                continue
            pictures = {}
            for reference in supporters(frame) if given.images else ():
                image_name = pixmap.names[reference]
                try:
                    pictures[image_name] = read_image(Path(given.images) / image_name)
                except ImageError as error:
                    print(error)
            plot_reprojections(frame, pixmap, pictures, file("reprojections"))
            plot_convergence(frame, recorded.levels, file("convergence"))
            plot_scene(frame, pixmap, file("scene"))
        if moved:
            known = {name: truth[name] for name in moved}
            ends, starts = (
                PoseErrors.of(known, {n: f.trace.pose(k) for n, f in moved.items() if f.trace})
                for k in (-1, 0)
            )
            plot_starts(starts, ends, output / f"starts.{given.format}")
    print(f"{len(list(output.glob(f'*.{given.format}')))} pictures in {output}")
    return 0
