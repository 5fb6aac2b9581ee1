"""`localize`: a list of queries against a map."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from tqdm import tqdm

from pixloc_ros.cli.options import Parser, network_of, require_outputs
from pixloc_ros.datasets import read_pairs, read_poses, read_queries, write_poses, write_text
from pixloc_ros.datasets.sequence import pose_at, read_timestamps, read_trajectory
from pixloc_ros.errors import InputError
from pixloc_ros.features import ImageError, read_image
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.left_out import LeftOut
from pixloc_ros.localization import (
    Decision,
    FrameContext,
    LocalizationResult,
    LocalizerOptions,
    MapSet,
    Moment,
    Pipeline,
    Prior,
    RunWriter,
    Status,
    View,
    facts_of,
)
from pixloc_ros.options import override
from pixloc_ros.retrieval import rank_by_global_features


def _priors(path: str, queries: Mapping[str, Camera]) -> dict[str, Pose]:
    """Start poses; those that are none, or of no query, are counted. Raises InputError."""
    left_out = LeftOut("start pose")
    poses = read_poses(path, left_out)
    known = {name: pose for name, pose in poses.items() if name in queries}
    if len(known) < len(poses):
        stranger = next(name for name in poses if name not in queries)
        left_out.add("of no query", stranger, len(poses) - len(known))
    if left_out:
        print(f"{path}: {left_out.as_text()}")
    if not known:
        raise InputError(f"{path}: no start pose of any query")
    return known


def _require_common_time(
    path: str, odometry: Mapping[float, Pose], stamps: Sequence[float]
) -> None:
    """Raise InputError where no query has odometry, and say of how many it is."""
    covered = sum(pose_at(odometry, stamp) is not None for stamp in stamps)
    if covered == 0:
        span = f"from {min(odometry):g} to {max(odometry):g} s" if odometry else "empty"
        raise InputError(
            f"{path}: no query is within the odometry ({span}; queries from {min(stamps):g} to "
            f"{max(stamps):g} s)"
        )
    if covered < len(stamps):
        print(f"{path}: {len(stamps) - covered} of {len(stamps)} queries are without odometry")


def make_parser() -> Parser:
    parser = Parser("localize", "Localize a list of query images against a map.")
    parser.add_argument(
        "--map", required=True, metavar="FILE", help="map file (.pixmap.h5), or a folder of them"
    )
    parser.add_argument(
        "--images", required=True, metavar="DIR", help="folder of the query images"
    )
    parser.add_argument(
        "--queries", required=True, metavar="FILE", help="lines 'name MODEL w h params...'"
    )
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="poses 'name qw qx qy qz tx ty tz'"
    )
    retrieval = parser.add_mutually_exclusive_group()
    retrieval.add_argument("--pairs", metavar="FILE", help="'query reference' lines, best first")
    retrieval.add_argument(
        "--global-features",
        metavar="FILE.h5",
        help="hloc's global descriptors of queries and references, instead of the map's own",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--priors", metavar="FILE", help="start poses, as --output has them")
    start.add_argument(
        "--odometry",
        metavar="FILE",
        help="TUM trajectory of the camera: track through the queries as the node does; needs "
        "--timestamps",
    )
    parser.add_argument("--timestamps", metavar="FILE", help="lines 'name seconds'")
    parser.add_argument("--report", metavar="FILE.json", help="status and timings of every query")
    parser.add_argument(
        "--record",
        metavar="FILE.pixrun",
        help="keep every step of every alignment, for `view`, `plot` and `video`; slower",
    )
    parser.add_network()
    parser.add_overrides()
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_intermixed_args(arguments)
    options = override(LocalizerOptions(), given.overrides)
    lists = [
        *(given.queries, given.pairs, given.priors, given.global_features),
        *(given.odometry, given.timestamps),
    ]
    if bool(given.odometry) != bool(given.timestamps):
        raise InputError("--odometry and --timestamps go together")
    outputs = [given.output, given.report, given.record]
    require_outputs(outputs, [given.map, given.weights, *lists])
    queries = read_queries(given.queries)
    pairs = read_pairs(given.pairs) if given.pairs else None
    priors = _priors(given.priors, queries) if given.priors else {}
    odometry = read_trajectory(given.odometry) if given.odometry else {}
    if given.timestamps:
        stamps = read_timestamps(given.timestamps, queries)
        queries = {name: queries[name] for name in sorted(queries, key=stamps.__getitem__)}
        _require_common_time(given.odometry, odometry, [stamps[name] for name in queries])
    folder = Path(given.images)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")

    results: dict[str, LocalizationResult] = {}
    decisions: dict[str, Decision | None] = {}
    still = Pose.identity(dtype=torch.float64)
    with MapSet(given.map, network_of(given), options) as map_set, ExitStack() as stack:
        for words in map_set.choose():
            print(words)
        localizer = map_set.submap.localizer
        pixmap, recorder = localizer.map, None
        count = len(map_set.submaps)
        if count > 1 and (pairs or priors or given.global_features or given.record):
            raise InputError(
                f"{given.map}: {count} maps; --pairs, --global-features, --priors and --record "
                "are for one"
            )
        if given.record:
            localizer = localizer.traced()
            recorder = stack.enter_context(RunWriter(given.record, pixmap))
        if given.global_features:
            pairs = rank_by_global_features(
                given.global_features, pixmap.names, list(queries), options.references
            )
        if pairs is not None and not any(
            known in pixmap.names for listed in pairs.values() for known in listed
        ):
            raise InputError(f"{given.pairs}: names no reference of {given.map}")
        references: Sequence[str] | None = None

        def ask(views: Sequence[View], prior: Prior | None, frame: str) -> LocalizationResult:
            if len(map_set.submaps) > 1:
                return map_set.localize_views(views, prior, frame)
            return localizer.localize_views(views, prior, references)

        pipeline = Pipeline(ask)
        for name, camera in tqdm(queries.items(), unit="query", desc="localizing"):
            try:
                image = read_image(folder / name)
            except ImageError as error:
                results[name] = LocalizationResult(Status.BAD_INPUT, str(error))
                continue
            prior = Prior(priors[name]) if name in priors else None
            references = None if pairs is None else pairs.get(name, [])
            views = [View(image, camera)]
            stamp = stamps[name] if given.timestamps else float(len(results))
            decision = None
            if odometry:
                # the camera is the robot
                observed = FrameContext(stamp, still, pose_at(odometry, stamp))
                outcome = pipeline.process(Moment(observed, views))
                result, prior, decision = outcome.estimate, outcome.prior, outcome.decision
            else:
                result = ask(views, prior, "")
            if recorder is not None:
                recorder.add(name, stamp, views, prior, result, decision)
            results[name], decisions[name] = replace(result, trace=None), decision

    believed = {name: result.cam_from_map for name, result in results.items() if result.ok}
    write_poses(given.output, believed)
    if given.report:
        report = {name: facts_of(result, decisions.get(name)) for name, result in results.items()}
        write_text(given.report, json.dumps(report, indent=1) + "\n")
    counts = Counter(result.status.value for result in results.values())
    tried = [result.timings_ms["total"] for result in results.values() if result.timings_ms]
    milliseconds = median(tried) if tried else 0.0
    print(
        f"{len(believed)} of {len(results)} queries localized ("
        + ", ".join(f"{count} {status}" for status, count in counts.items())
        + f"), median {milliseconds:.0f} ms -> {given.output}"
    )
    unreadable = [n for n, r in results.items() if r.status is Status.BAD_INPUT]
    if unreadable:
        first = results[unreadable[0]].reason
        raise InputError(f"{len(unreadable)} queries could not be used, the first: {first}")
    return 0
