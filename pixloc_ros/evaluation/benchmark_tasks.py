"""The queries of a part of a benchmark, and what each starts with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pycolmap
import torch

from pixloc_ros.datasets import read_pairs, read_poses, read_queries
from pixloc_ros.datasets.benchmarks import Part
from pixloc_ros.datasets.hloc_logs import Logged, read_logs
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.benchmark_options import BenchmarkOptions
from pixloc_ros.geometry import Camera, Pose, average_pose
from pixloc_ros.mapping import ModelError, SparseModel
from pixloc_ros.retrieval import Covisibility, rank_by_global_features
from pixloc_ros.retrieval.global_features import read_global_features

MATCHED = 10
"""Inliers without which a pose of hloc's is no start, where PixLoc is run as published."""


@dataclass(frozen=True)
class Task:
    """A query: where its image is, and what it starts with.

    references: names, best first; None leaves them to the map. inliers: of hloc, points of the
    model and the references that each was matched with. reason: why there is no start.
    """

    name: str
    image: Path
    camera: Camera
    prior: Pose | None
    references: tuple[str, ...] | None
    inliers: tuple[tuple[int, tuple[int, ...]], ...] | None = None
    reason: str = ""


@dataclass(frozen=True)
class _Logs:
    """What hloc logged, with the numbers of our model. points: index of COLMAP's numbers."""

    queries: Mapping[str, Logged]
    points: Mapping[int, int]


def _read_logs(part: Part) -> _Logs:
    if part.logs is None:
        raise InputError("hloc's logs are needed: --hloc-logs FILE")
    try:
        model = pycolmap.Reconstruction(part.sfm)
    except (ValueError, RuntimeError, OSError) as error:
        raise ModelError(f"{part.sfm}: damaged COLMAP model ({error})") from None
    queries = read_logs(part.logs, {i: image.name for i, image in model.images.items()})
    # as `read_colmap` numbers them
    return _Logs(queries, {number: i for i, number in enumerate(sorted(model.points3D))})


def tasks_of(
    part: Part,
    options: BenchmarkOptions,
    model: SparseModel,
    skip: int,
    priors: Path | None,
) -> list[Task]:
    """Every query of a part, or every `skip`-th. model: what is localized in.

    Raises InputError for unusable lists.
    """
    queries: dict[str, Camera] = {}
    for file in part.query_lists():
        queries |= read_queries(file)
    queries = dict(list(queries.items())[:: max(skip, 1)])
    starts = _Starts(part, options, model, list(queries), priors)
    return [starts.task(name, camera) for name, camera in queries.items()]


class _Starts:
    def __init__(
        self,
        part: Part,
        options: BenchmarkOptions,
        model: SparseModel,
        queries: Sequence[str],
        priors: Path | None,
    ) -> None:
        self._part, self._options, self._model = part, options, model
        self._count = options.localizer_options().references
        self._number = {name: i for i, name in enumerate(model.names)}
        self._poses = Pose.from_quaternion(model.quaternion, model.translation)
        self._covisibility = Covisibility(model)
        self._pairs: Mapping[str, Sequence[str]] | None = None
        published = options.procedure == "published"
        logged = options.start == "poses" or options.refinement.do_inlier_ranking
        if part.pairs.is_file():
            self._pairs = read_pairs(part.pairs)
        elif part.descriptors is not None and part.descriptors.is_file():
            self._pairs = rank_by_global_features(
                part.descriptors, model.names, queries, self._count
            )
        elif options.start in ("retrieval", "approximation") or (published and not logged):
            raise InputError(f"{part.pairs}: no such pairs, which start={options.start} needs")
        self._given = read_poses(priors) if priors is not None else {}
        wanted = logged or options.refinement.point_selection == "inliers"
        self._logs = _read_logs(part) if wanted else _Logs({}, {})

    def task(self, name: str, camera: Camera) -> Task:
        image = self._part.query_images / name
        references = self._references(name)
        known = [self._number[r] for r in references or () if r in self._number][: self._count]
        options = self._options
        linked = options.start == "approximation" or options.refinement.filter_covisibility
        if linked and known and not self._ranked_by_inliers(name):
            known = self._covisibility.largest_cluster(known)
            references = tuple(self._model.names[r] for r in known)
        prior = self._given.get(name)
        reason = ""
        if prior is None and options.start == "poses":
            prior, reason = self._logged_pose(name)
        elif prior is None and known and options.start == "retrieval":
            prior = self._poses[known[0]]
        elif prior is None and known and options.start == "approximation":
            prior = self._approximation(name, known)
        if options.procedure == "robust":
            return Task(name, image, camera, prior, references)
        names = tuple(self._model.names[r] for r in known)
        inliers = self._inliers(name) if options.refinement.point_selection == "inliers" else None
        return Task(name, image, camera, prior, names, inliers, reason)

    def _ranked_by_inliers(self, name: str) -> bool:
        refinement, logged = self._options.refinement, self._logs.queries.get(name)
        wanted = refinement.do_inlier_ranking or (
            self._options.procedure == "published" and self._options.start == "poses"
        )
        return wanted and logged is not None and logged.cam_from_map is not None

    def _references(self, name: str) -> tuple[str, ...] | None:
        if not self._ranked_by_inliers(name):
            return None if self._pairs is None else tuple(self._pairs.get(name, ()))
        logged = self._logs.queries[name]
        if self._options.procedure == "robust":
            return logged.references
        least = self._options.refinement.min_matches_db
        ranked = zip(logged.references, logged.counts, strict=True)
        return tuple(r for r, count in ranked if count > least)

    def _logged_pose(self, name: str) -> tuple[Pose | None, str]:
        """Where hloc says the query is, or why that is not known."""
        logged = self._logs.queries.get(name)
        if logged is None or logged.cam_from_map is None:
            return None, "hloc has no pose of it"
        if self._options.procedure == "published" and len(logged.inliers) < MATCHED:
            return None, f"{len(logged.inliers)} inliers of hloc, {MATCHED} are needed"
        return logged.cam_from_map, ""

    def _inliers(self, name: str) -> tuple[tuple[int, tuple[int, ...]], ...]:
        logged = self._logs.queries.get(name)
        return tuple(
            (
                self._logs.points[point],
                tuple(self._number[r] for r in seen_by if r in self._number),
            )
            for point, seen_by in (logged.inliers if logged else ())
            if point in self._logs.points
        )

    def _approximation(self, query: str, references: Sequence[int]) -> Pose:
        """Mean pose weighted by (d_i . d_q)^8: Pion et al., "Benchmarking Image Retrieval for
        Visual Localization" (3DV 2020), section 3; equal weights without descriptors.
        """
        weights = torch.ones(len(references), dtype=torch.float64)
        file = self._part.descriptors
        if file is not None and file.is_file():
            names = [query, *(self._model.names[r] for r in references)]
            vectors = read_global_features(file, names).double()
            weights = (vectors[1:] @ vectors[0]).clamp(min=1e-6) ** 8
        return average_pose(self._poses[list(references)], weights)
