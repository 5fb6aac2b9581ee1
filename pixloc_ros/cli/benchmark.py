"""`benchmark`: a public data set, from its files to its table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from pixloc_ros.cli.options import Parser
from pixloc_ros.datasets import read_poses, write_text
from pixloc_ros.datasets.benchmarks import (
    LAYOUTS,
    DatasetLayout,
    Part,
    Roots,
    parts_of,
    write_missing_queries,
)
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation import as_json
from pixloc_ros.evaluation.benchmark import (
    Job,
    PublishedJob,
    errors_of,
    join,
    manifest,
    map_of,
    run_part,
)
from pixloc_ros.evaluation.benchmark_options import BenchmarkOptions, options_of, weights_of
from pixloc_ros.evaluation.benchmark_tasks import tasks_of
from pixloc_ros.evaluation.metrics import PoseErrors
from pixloc_ros.evaluation.report import table
from pixloc_ros.mapping import PixMap, read_colmap

KINDS = tuple(dict.fromkeys(layout.kind for layout in LAYOUTS.values() if layout.kind))
"""What the parts of benchmarks are called."""


def _chosen(layout: DatasetLayout, given: Sequence[str] | None) -> list[str]:
    """Names, or for slices also intervals as 2-6."""
    names: list[str] = []
    for entry in given or ():
        for word in entry.strip("[]").replace(",", " ").split():
            first, dash, last = word.partition("-")
            if layout.kind == "slices" and dash and first.isdigit() and last.isdigit():
                names += [str(n) for n in range(int(first), int(last) + 1)]
            else:
                names.append(word)
    return names


def make_parser() -> Parser:
    parser = Parser("benchmark", "Localize the queries of a benchmark and print its table.")
    parser.add_argument("name", choices=sorted(LAYOUTS), help="own: a folder as hloc has it")
    parser.add_argument("--dataset", metavar="DIR", help="(default: datasets/NAME)")
    parser.add_argument(
        "--dumps", metavar="DIR", help="hloc's outputs (default: outputs/hloc/NAME)"
    )
    parser.add_argument("--eval-dir", metavar="DIR", default="outputs/results")
    parser.add_argument("--maps", metavar="DIR", help="(default: outputs/maps/NAME)")
    parser.add_argument("--results", metavar="FILE", help="of one part")
    parser.add_argument("--reference-sfm", metavar="DIR")
    parser.add_argument("--retrieval", metavar="FILE", help="pairs 'query reference', best first")
    parser.add_argument("--global-descriptors", metavar="FILE.h5")
    parser.add_argument("--hloc-logs", metavar="FILE.pkl")
    parser.add_argument("--from-poses", action="store_true", help="start at hloc's PnP poses")
    parser.add_argument(
        "--inlier-ranking", action="store_true", help="references by hloc's inliers"
    )
    parser.add_argument("--priors", metavar="FILE", help="start poses 'name qw qx qy qz tx ty tz'")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", nargs="+", metavar="NAME", help="(default: all)")
    parser.add_argument("--experiment", metavar="NAME", help="as experiment=NAME")
    parser.add_argument("--skip", type=int, default=1, metavar="N", help="every N-th query only")
    parser.add_argument(
        "--eval-only", action="store_true", help="judge the results that are there"
    )
    parser.add_argument("--num-workers", type=int, default=0, metavar="N", help="processes")
    parser.add_argument(
        "--ray", metavar="ADDRESS", default="", help="spread the processes over a Ray cluster"
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="for example refinement.num_dbs=5 start=retrieval procedure=published",
    )
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_intermixed_args(arguments)
    layout = LAYOUTS[given.name]
    own: dict[str, list[str]] = {}
    for kind in KINDS:
        words = getattr(given, kind) or []
        # settings may follow the names
        own[kind] = [word for word in words if "=" not in word]
        given.overrides += [word for word in words if "=" in word]
    stranger = next((k for k, v in own.items() if v and k != layout.kind), None)
    if stranger is not None:
        raise InputError(f"--{stranger}: {layout.name} has {layout.kind or 'one part only'}")
    if given.skip < 1 or given.num_workers < 0:
        raise InputError("--skip is at least 1, --num-workers at least 0")
    overrides = [*given.overrides]
    if given.experiment:
        overrides.append(f"experiment={given.experiment}")
    if given.from_poses:
        overrides.append("start=poses")
    if given.inlier_ranking:
        overrides.append("refinement.do_inlier_ranking=true")
    options = options_of(layout, overrides)
    if options.start == "priors" and not given.priors:
        raise InputError("start=priors needs --priors")
    replaced = {
        name: Path(value)
        for name, value in (
            ("results", given.results),
            ("sfm", given.reference_sfm),
            ("pairs", given.retrieval),
            ("descriptors", given.global_descriptors),
            ("logs", given.hloc_logs),
        )
        if value
    }
    roots = Roots(
        Path(given.dataset or f"datasets/{layout.name}"),
        Path(given.dumps or f"outputs/hloc/{layout.name}"),
        Path(given.eval_dir),
        replaced,
    )
    parts = parts_of(layout, roots, _chosen(layout, own.get(layout.kind)))
    if given.results and len(parts) > 1:
        raise InputError(f"--results is of one part, choose one of the {layout.kind}")
    if not given.eval_only:
        maps = Path(given.maps or f"outputs/maps/{layout.name}")
        _localize(layout, parts, options, roots, maps, given)
    _judge(layout, parts, only_localized=given.skip > 1, json_file=given.json)
    if layout.submitted and not given.results:
        names = "-".join(part.name[:3] for part in parts)
        output = roots.results / layout.results.format(part=names)
        if len(parts) > 1:
            join([part.results for part in parts], output)
        print(f"to submit to visuallocalization.net: {output}")
    return 0


def _localize(
    layout: DatasetLayout,
    parts: Sequence[Part],
    options: BenchmarkOptions,
    roots: Roots,
    maps: Path,
    given: argparse.Namespace,
) -> None:
    weights = weights_of(options.experiment, Path("outputs/training"))
    priors = Path(given.priors) if given.priors else None
    for part in parts:
        write_missing_queries(layout, part, roots.data)
        map_file = None
        job: Job | PublishedJob
        if options.procedure == "published":
            model = read_colmap(part.sfm)
            job = PublishedJob(part, weights, options, given.device)
        else:
            map_file = map_of(part, maps, weights, options, given.device)
            with PixMap(map_file) as pixmap:
                model = pixmap.model
            job = Job(map_file, weights, options, given.device)
        tasks = tasks_of(part, options, model, given.skip, priors)
        entries = run_part(
            part,
            layout,
            job,
            tasks,
            manifest(options, map_file, weights),
            given.num_workers,
            given.ray,
        )
        found = sum(entry["status"] == "success" for entry in entries.values())
        word = "aligned" if options.procedure == "published" else "believed"
        print(f"{part.name or layout.name}: {found} of {len(entries)} {word} -> {part.results}")


def _judge(
    layout: DatasetLayout, parts: Sequence[Part], only_localized: bool, json_file: str | None
) -> None:
    judged: dict[str, PoseErrors] = {}
    for part in parts:
        if not part.results.is_file():
            raise InputError(f"{part.results}: no results to judge")
        errors = errors_of(part, layout, read_poses(part.results), only_localized)
        if errors is not None:
            judged[part.name or layout.name] = errors
    if not judged:
        print("no ground truth here: the evaluation server has it")
        return
    print(table(judged))
    if json_file:
        content = {name: as_json(errors) for name, errors in judged.items()}
        write_text(json_file, json.dumps(content, indent=1) + "\n")
