"""`evaluate`: poses against ground truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pixloc_ros.cli.options import Parser, require_outputs
from pixloc_ros.datasets import read_poses, write_text
from pixloc_ros.datasets.sequence import read_timestamps
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation import (
    Exhibit,
    PoseErrors,
    as_html,
    as_json,
    as_table,
    comparison,
)
from pixloc_ros.evaluation.trajectory import trajectory_errors
from pixloc_ros.evaluation.uncertainty import LEVELS, as_lines, claims_of_report
from pixloc_ros.geometry import Pose
from pixloc_ros.left_out import LeftOut
from pixloc_ros.localization import RunFile
from pixloc_ros.visualization.curves import cumulative
from pixloc_ros.visualization.overlay import as_jpeg, draw_frame
from pixloc_ros.visualization.style import as_svg, save

WORST = 10
"""Queries that a page shows."""


def make_parser() -> Parser:
    parser = Parser("evaluate", "Compare poses with ground truth: medians and recalls.")
    parser.add_argument("--ground-truth", required=True, metavar="FILE")
    parser.add_argument("--results", required=True, metavar="FILE", help="as `localize` writes it")
    parser.add_argument(
        "--nees",
        metavar="REPORT.json",
        help="also judge the covariances in what `localize --report` wrote",
    )
    parser.add_argument(
        "--baseline", metavar="FILE", help="other results: what differs, and what got worse"
    )
    parser.add_argument(
        "--timestamps",
        metavar="FILE",
        help="lines 'name seconds': also the errors of the sequence, ATE and RPE",
    )
    parser.add_argument("--plot", metavar="FILE.png", help="cumulative errors; also .svg and .pdf")
    parser.add_argument("--json", metavar="FILE", help="write the numbers, every query's too")
    parser.add_argument("--html", metavar="FILE", help="write a page with tables and curves")
    parser.add_argument(
        "--run",
        metavar="RUN.pixrun",
        help="as `localize --record` writes it: the page shows the ten worst queries",
    )
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_args(arguments)
    inputs = [given.ground_truth, given.results, given.nees, given.baseline]
    inputs += [given.timestamps, given.run]
    if given.run and not given.html:
        raise InputError("--run is for the page: --html FILE")
    require_outputs([given.json, given.html, given.plot], inputs)
    truth = _read(given.ground_truth)
    if not truth:
        raise InputError(f"{given.ground_truth}: no poses in the file")
    results = _known(_read(given.results), truth, given.results, given.ground_truth)
    errors = PoseErrors.of(truth, results)
    curves = {given.results: errors}
    if given.baseline:
        others = _known(_read(given.baseline), truth, given.baseline, given.ground_truth)
        baseline = PoseErrors.of(truth, others)
        print(comparison(errors, baseline))
        curves[given.baseline] = baseline
    else:
        print(as_table(errors))
    numbers = as_json(errors)
    said: list[str] = []
    if given.nees:
        claims = claims_of_report(_read_report(given.nees), results, truth)
        said += as_lines(claims)
        numbers["nees"] = {
            "answers": len(claims),
            "mean": float(claims.nees().mean()),
            "median": float(np.median(claims.nees())),
            "coverage": dict(zip(map(str, LEVELS), claims.coverage(), strict=True)),
        }
    if given.timestamps:
        stamps = read_timestamps(given.timestamps, results)
        path = trajectory_errors(truth, results, stamps)
        said.append(path.as_text())
        numbers["trajectory"] = asdict(path)
    print("\n".join(said), end="\n" if said else "")
    if given.plot:
        save(cumulative(curves), given.plot)
    if given.json:
        write_text(given.json, json.dumps(numbers, indent=1) + "\n")
    if given.html:
        exhibits = _exhibits(given.run, errors) if given.run else ()
        title = f"{given.results} against {given.ground_truth}"
        page = as_html(errors, title, as_svg(cumulative(curves)), exhibits, "\n".join(said))
        write_text(given.html, page)
    return 0


def _read(path: str) -> dict[str, Pose]:
    left_out = LeftOut("line")
    poses = read_poses(path, left_out)
    if left_out:
        print(f"{path}: {left_out.as_text()}")
    return poses


def _known(
    poses: dict[str, Pose], truth: Mapping[str, Pose], path: str, truth_path: str
) -> dict[str, Pose]:
    """Those of which there is a truth. Raises InputError where there is none at all."""
    known = {name: pose for name, pose in poses.items() if name in truth}
    if poses and not known:
        first = next(iter(poses))
        raise InputError(f"{path}: {first} and all others are not in {truth_path}")
    if len(known) < len(poses):
        stranger = next(name for name in poses if name not in truth)
        print(
            f"{path}: {len(poses) - len(known)} poses are not in {truth_path} and not judged (the "
            f"first: {stranger})"
        )
    return known


def _exhibits(path: str, errors: PoseErrors) -> list[Exhibit]:
    """The ten worst queries with their pictures, as they were recorded."""
    worst = [errors.names[i] for i in np.argsort(-errors.metres, kind="stable")[:WORST]]
    found: dict[str, Exhibit] = {}
    with RunFile(path) as recorded:
        for number in range(len(recorded)):
            frame = recorded[number]
            if frame.name in worst:
                found[frame.name] = Exhibit(
                    frame.name,
                    f"{frame.facts['status']}: {frame.facts['reason']}",
                    as_jpeg(draw_frame(frame)),
                )
    missing = "not in the recorded run"
    return [found.get(name) or Exhibit(name, missing, None) for name in worst]


def _read_report(path: str) -> dict[str, object]:
    try:
        report = json.loads(Path(path).read_text())
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if not isinstance(report, dict):
        raise InputError(f"{path}: not what localize --report writes")
    return report
