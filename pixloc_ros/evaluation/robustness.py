"""Localization of graded corruptions of known queries, beside another localizer's poses.

`python -m pixloc_ros.evaluation.robustness --map place.pixmap.h5 --queries FOLDER --near 0.1 5`

FOLDER holds `images/KIND_SEVERITY/NAME`, `queries_with_intrinsics.txt` (hloc) and `gt_poses.txt`:
what a program has made of real queries by darkening, covering, blurring or turning them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pixloc_ros.datasets import read_poses, read_queries
from pixloc_ros.errors import InputError
from pixloc_ros.features import open_network, read_image
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import LocalizationResult, Localizer, LocalizerOptions
from pixloc_ros.mapping import PixMap
from pixloc_ros.options import override


@dataclass(frozen=True)
class Degraded:
    """One corruption at one severity. right: answers near the truth; wrong: believed elsewhere;
    withheld: near the truth, but not believed; beside: right ones of the other localizer.
    """

    kind: str
    severity: int
    images: int
    right: int
    wrong: int
    withheld: int
    beside: int | None


def is_near(estimate: Pose, truth: Pose, near: tuple[float, float]) -> bool:
    """Whether a pose is within metres and degrees of another."""
    metres, radians = estimate.distance(truth)
    return float(metres) <= near[0] and float(torch.rad2deg(radians)) <= near[1]


def by_severity(names: Sequence[str]) -> dict[tuple[str, int], list[str]]:
    """Names of images by the corruption and the severity that their folder tells."""
    groups: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name in names:
        kind, _, severity = Path(name).parent.name.rpartition("_")
        if not kind or not severity.isdigit():
            raise InputError(f"{name}: expected KIND_SEVERITY/NAME")
        groups[kind, int(severity)].append(name)
    return dict(sorted(groups.items()))


def rows(
    answers: Mapping[str, LocalizationResult],
    truth: Mapping[str, Pose],
    near: tuple[float, float],
    beside: Mapping[str, Pose] | None = None,
) -> Iterator[Degraded]:
    """One row for each corruption and severity."""
    for (kind, severity), names in by_severity(list(answers)).items():
        right, wrong, withheld = 0, 0, 0
        for name in names:
            answer = answers[name]
            good = is_near(answer.cam_from_map, truth[name], near)
            right += answer.ok and good
            wrong += answer.ok and not good
            withheld += good and not answer.ok
        other = None
        if beside is not None:
            other = sum(n in beside and is_near(beside[n], truth[n], near) for n in names)
        yield Degraded(kind, severity, len(names), right, wrong, withheld, other)


def _as_text(table: Sequence[Degraded]) -> str:
    lines = [f"{'':12} {'images':>7} {'right':>6} {'wrong':>6} {'withheld':>9} {'beside':>7}"]
    for row in table:
        beside = "" if row.beside is None else str(row.beside)
        lines.append(
            f"{row.kind:9} {row.severity:2} {row.images:7} {row.right:6} {row.wrong:6} "
            f"{row.withheld:9} {beside:>7}"
        )
    return "\n".join(lines)


def known_queries(folder: Path) -> tuple[dict[str, Camera], dict[str, Pose]]:
    """Cameras and true cam_from_map of the queries of a folder. Raises InputError."""
    queries = read_queries(folder / "queries_with_intrinsics.txt")
    truth = read_poses(folder / "gt_poses.txt")
    missing = next((name for name in queries if name not in truth), None)
    if missing is not None:
        raise InputError(f"{folder / 'gt_poses.txt'}: lacks {missing}")
    return queries, truth


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pixloc_ros.evaluation.robustness",
        description="Localize graded corruptions of known queries.",
    )
    parser.add_argument("--map", required=True, metavar="FILE")
    parser.add_argument("--queries", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--near", nargs=2, type=float, default=(0.1, 5.0), metavar=("METRES", "DEGREES")
    )
    parser.add_argument("--beside", metavar="FILE", help="poses of another localizer")
    parser.add_argument("--json", metavar="FILE", help="the table as JSON")
    parser.add_argument("--weights", metavar="FILE", help="network checkpoint")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="localizer settings")
    given = parser.parse_intermixed_args(arguments)
    try:
        return _report(given)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _report(given: argparse.Namespace) -> int:
    queries, truth = known_queries(given.queries)
    beside = read_poses(given.beside) if given.beside else None
    options = override(LocalizerOptions(), given.overrides)
    with PixMap(given.map) as pixmap:
        localizer = Localizer(pixmap, open_network(given.weights), options)
        answers = {
            name: localizer.localize(read_image(given.queries / "images" / name), camera)
            for name, camera in tqdm(queries.items(), unit="image")
        }
    table = list(rows(answers, truth, tuple(given.near), beside))
    print(_as_text(table))
    milliseconds = [answer.timings_ms["total"] for answer in answers.values()]
    print(f"{len(answers)} images, median {np.median(milliseconds):.0f} ms")
    if given.json:
        Path(given.json).write_text(json.dumps([asdict(row) for row in table], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
