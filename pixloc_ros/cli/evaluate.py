"""`evaluate`: poses against ground truth."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pixloc_ros.cli.options import Parser, require_outputs
from pixloc_ros.datasets import read_poses, write_text
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation import PoseErrors, as_html, as_json, as_table


def run(arguments: Sequence[str]) -> int:
    parser = Parser("evaluate", "Compare poses with ground truth: medians and recalls.")
    parser.add_argument("--ground-truth", required=True, metavar="FILE")
    parser.add_argument("--results", required=True, metavar="FILE", help="as `localize` writes it")
    parser.add_argument("--json", metavar="FILE", help="write the numbers, every query's too")
    parser.add_argument("--html", metavar="FILE", help="write a page")
    given = parser.parse_args(arguments)
    require_outputs([given.json, given.html], [given.ground_truth, given.results])
    truth, results = read_poses(given.ground_truth), read_poses(given.results)
    if not truth:
        raise InputError(f"{given.ground_truth}: no poses in the file")
    stranger = next((name for name in results if name not in truth), None)
    if stranger is not None:
        raise InputError(f"{given.results}: {stranger} is not in {given.ground_truth}")
    errors = PoseErrors.of(truth, results)
    print(as_table(errors))
    if given.json:
        write_text(given.json, json.dumps(as_json(errors), indent=1) + "\n")
    if given.html:
        write_text(given.html, as_html(errors, f"{given.results} against {given.ground_truth}"))
    return 0
