"""`demo`: a robot replays a drive and is told where it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pixloc_ros.cli.options import Parser, network_of
from pixloc_ros.datasets import write_text
from pixloc_ros.datasets.bag import read_ground_truth, write_bag
from pixloc_ros.datasets.rendered_room import mount, render_room
from pixloc_ros.datasets.sequence import read_sequence, write_trajectory
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.replay import Answer, ReplayReport, trajectory_lines
from pixloc_ros.files import installed
from pixloc_ros.mapping import build_map, read_colmap
from pixloc_ros.visualization.trajectory import plot_trajectory


class _Bars:
    """One progress bar a stage."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._bar is None or self._bar.desc != stage:
            self._bar = tqdm(total=total, desc=stage)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()
            self._bar = None


def make_parser() -> Parser:
    parser = Parser(
        "demo",
        "Replay a drive over ROS 2 to the localization node, as separate processes, and say "
        "how well it knew where it was.",
    )
    parser.add_argument(
        "--pack",
        metavar="DIR",
        help="a folder of real images (images/, sparse/, queries_with_intrinsics.txt, "
        "gt_poses.txt, timestamps.txt, odometry_sim.txt); default: a room that is rendered",
    )
    parser.add_argument("--output", metavar="DIR", default="demo", help="(default: demo)")
    parser.add_argument(
        "--rate",
        type=float,
        default=1.0,
        help="speed of the replay, for slow machines (default 1)",
    )
    parser.add_network()
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_args(arguments)
    if not 0.01 <= given.rate <= 100:
        raise InputError(f"--rate {given.rate}: not in 0.01 to 100")
    try:
        from pixloc_ros.ros.replay import replay
    except ImportError as error:
        raise InputError(f"ROS 2 is not available here: {error}") from None

    output = Path(given.output)
    output.mkdir(parents=True, exist_ok=True)
    bars = _Bars()
    if given.pack:
        root = Path(given.pack).resolve()
        if not root.is_dir():
            raise InputError(f"{root}: no such folder")
    else:
        root = output / "room"
        if not (root / "odometry_sim.txt").is_file():  # written last: the room is whole
            render_room(root, progress=bars)
    name = root.name
    sequence = read_sequence(root)
    if any(frame.truth is None for frame in sequence.frames):
        raise InputError(f"{root}: gt_poses.txt lacks poses of the queries")
    network = network_of(given)
    map_file, bag = output / f"{name}.pixmap.h5", output / f"{name}_bag"
    model = read_colmap(sequence.model)
    build_map(
        model,
        sequence.images,
        map_file,
        network,
        progress=lambda done, total: bars("building the map", done, total),
    )
    print(f"recording {bag} ({len(sequence.frames)} frames)", flush=True)
    write_bag(sequence, bag, mount())

    settings = ["-p", f"odometry:={'topic' if sequence.odometry else 'none'}"]
    settings += ["-p", f"device:={given.device}"]
    if given.weights:
        settings += ["-p", f"weights:={Path(given.weights).resolve()}"]
    duration = sequence.frames[-1].stamp - sequence.frames[0].stamp
    print(f"replaying {duration:.1f} s to the node", flush=True)
    truth = read_ground_truth(bag)

    def say_first(answer: Answer) -> None:
        metres, _ = answer.error(truth)
        x, y, _ = answer.map_from_base.translation.tolist()
        print(f"first fix: x {x:.2f} m, y {y:.2f} m, {metres:.3f} m from the truth", flush=True)

    profile = installed("config/fastdds.xml")
    watcher = replay(bag, map_file, settings, profile, given.rate, say_first)

    report = ReplayReport.of(len(sequence.frames), watcher.answers, truth)
    picture, numbers = output / f"{name}.png", output / f"{name}.json"
    odometry = np.zeros((0, 3))
    if watcher.answers and watcher.odometry and sequence.odometry:
        first = watcher.answers[0]
        nearest = min(sequence.odometry, key=lambda stamp: abs(stamp - first.stamp))
        cam = sequence.odometry[nearest]
        map_from_odom = first.map_from_base @ (mount() @ cam @ mount().inverse()).inverse()
        odometry = np.array(
            [(map_from_odom @ o).translation.tolist() for o in watcher.odometry.values()]
        )
    plot_trajectory(
        picture,
        model.points,
        np.array([model.pose(i).inverse().translation.tolist() for i in range(len(model.names))]),
        np.array([pose.translation.tolist() for pose in truth.values()]),
        np.array([a.map_from_base.translation.tolist() for a in watcher.answers]),
        odometry,
        f"{name}: {len(watcher.answers)} fixes of {report.frames} frames",
    )
    moving = watcher.trajectory()
    if moving and sequence.odometry:
        write_trajectory(output / f"{name}_tf.tum", moving)
        write_trajectory(output / f"{name}_odometry.tum", watcher.odometry)
        write_trajectory(output / f"{name}_truth.tum", truth)
    content = {
        "frames": report.frames,
        "answers": [
            {"stamp": s, "m": m, "deg": d, "sigmas": g, "latency_ms": ms}
            for s, m, d, g, ms in zip(
                report.stamps,
                report.metres,
                report.degrees,
                report.sigmas,
                report.latency_ms,
                strict=True,
            )
        ],
    }
    write_text(numbers, json.dumps(content, indent=1) + "\n")
    print()
    along = trajectory_lines(moving, truth) if sequence.odometry else []
    busy = [float(entry["latency_ms"]) for entry in watcher.judged]
    for what, value in [
        *report.lines(),
        ("judged", f"{len(busy)} frames, {np.median(busy) if busy else 0:.0f} ms each"),
        *along,
        ("picture", str(picture)),
        ("numbers", str(numbers)),
    ]:
        print(f"{what:>18}  {value}")
    if not watcher.answers:
        raise InputError("the node published no pose")
    return 0
