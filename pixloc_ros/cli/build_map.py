"""`build_map`: images, or a recording, or a COLMAP model with its images -> one map file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pixloc_ros import __version__
from pixloc_ros.cli.build_map_options import check, make_parser, parse_levels
from pixloc_ros.cli.options import network_of, parse_camera
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.map_quality import map_quality
from pixloc_ros.features import FeatureNetwork, PyramidLevel, default_levels
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import Localizer, Prior
from pixloc_ros.mapping import PixMap, build_map
from pixloc_ros.mapping.builder import BuildSummary
from pixloc_ros.mapping.calibration import write_calibration
from pixloc_ros.mapping.renewal import gone_points, renew
from pixloc_ros.mapping.schema import SUFFIX
from pixloc_ros.mapping.sessions import Session
from pixloc_ros.mapping.sources import (
    FromBag,
    FromColmap,
    FromImages,
    FromKept,
    FromLocalized,
    FromPoses,
    FromTransforms,
    HlocFeatures,
    MapFrame,
    Source,
    Stages,
    Work,
)
from pixloc_ros.mapping.sources.depth import DepthFolder
from pixloc_ros.mapping.sources.extend import Locate
from pixloc_ros.mapping.sources.refresh import LocateFrom
from pixloc_ros.mapping.sources.source import claim, require_own

MANY = 60
"""Images from which on processes of their own are worth starting."""


def _processes(given: argparse.Namespace, references: int, network: FeatureNetwork) -> int:
    """One a core, where there is enough to do; a GPU is fed by this one."""
    if given.processes is not None:
        return int(given.processes)
    if network.device.type != "cpu" or references < MANY:
        return 0
    return len(os.sched_getaffinity(0))


def _source(given: argparse.Namespace, work: Work, number: int, extended: PixMap | None) -> Source:
    """What the arguments name, built. Raises InputError.

    number: of several recordings. extended: the map that it is added to.
    """
    network = work.network
    images = Path(given.images) if given.images else Path()
    camera = parse_camera(given.camera) if given.camera else None
    known = HlocFeatures(Path(given.features), Path(given.matches)) if given.features else None
    if given.colmap:
        source = FromColmap(Path(given.colmap), images).build(work)
    elif given.transforms:
        source = FromTransforms(Path(given.transforms), images, known, given.adjust).build(work)
    elif given.poses:
        assert camera is not None
        source = FromPoses(Path(given.poses), images, camera, known, given.adjust).build(work)
    elif given.refresh:
        assert extended is not None
        localizer = Localizer(extended, network)
        localizer.leave_out_points(gone_points(extended))
        known_images = frozenset(extended.names)
        source = FromKept(
            Path(given.refresh), images, _locate_from(localizer), known_images
        ).build(work)
    elif given.extend:
        assert extended is not None
        assert camera is not None
        source = FromLocalized(
            Path(given.extend),
            images,
            camera,
            _locate(Localizer(extended, network)),
            frozenset(extended.names),
            known,
            given.adjust,
        ).build(work)
    elif given.images:
        positions = Path(given.positions) if given.positions else None
        frame = MapFrame(positions, given.gps, given.gps_altitude, given.marker, given.scale)
        source = FromImages(images, camera, frame, known).build(work)
    else:
        bag = Path(given.bag[number])
        source = FromBag(
            bag,
            given.topic,
            given.pose_topic,
            given.depth_topic,
            given.frame,
            given.base_frame,
            given.camera_frame,
            given.rectified,
            given.keyframe_m,
            given.keyframe_deg,
            camera,
            known,
            given.adjust,
            None if extended is None else _locate(Localizer(extended, network)),
            f"{number + 1}-{bag.stem}" if number else "",
        ).build(work)
    if given.depth:
        return DepthFolder(Path(given.depth), given.depth_unit).add(source, work)
    if given.depth_topic:
        return DepthFolder(work.folder / "depth").add(source, work)
    return source


def _locate(localizer: Localizer) -> Locate:
    def locate(image: np.ndarray, camera: Camera) -> tuple[Pose | None, str]:
        answer = localizer.localize(image, camera)
        return (answer.cam_from_map if answer.ok else None), answer.reason

    return locate


def _locate_from(localizer: Localizer) -> LocateFrom:
    least = localizer.options.gate.patches

    def locate(image: np.ndarray, camera: Camera, near: Pose) -> tuple[Pose | None, str]:
        answer = localizer.localize(image, camera, Prior(near), search=False)
        few = localizer.map.has_patches and answer.statistics.patches < least
        if answer.ok and (few or not localizer.is_plain(answer)):
            return None, "too little of the map agrees to add it"
        return (answer.cam_from_map if answer.ok else None), answer.reason

    return locate


def _bar(items: Iterable[Any], *, total: int, unit: str, desc: str) -> Iterable[Any]:
    return tqdm(items, total=total, unit=unit, desc=desc)


@contextmanager
def _as_named(made: Path, wanted: Path) -> Iterator[None]:
    """What goes wrong with a file in between is said of the file that was asked for."""
    try:
        yield
    except InputError as error:
        raise type(error)(str(error).replace(str(made), str(wanted))) from None


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_args(arguments)
    check(given)
    network = network_of(given)
    levels: Sequence[PyramidLevel] = default_levels(network, given.speed or "accurate")
    if given.levels:
        levels = parse_levels(given.levels, len(network.strides))
    output = Path(given.output)
    folder = Path(given.work or given.output.removesuffix(SUFFIX) + ".work")
    require_own(folder)
    count = len(given.bag or [""])
    before = given.extend or given.refresh
    images, references, stages = [], 0, Stages()
    for number in range(count):
        # what lies in between: a folder for each of several recordings
        own = folder / str(number + 1) if count > 1 else folder
        if count > 1:
            claim(folder)
        made = output if number + 1 == count else own / f"map{SUFFIX}"
        work = Work(own, network, print, _bar, stages)
        source, summary = _build(given, work, levels, number, before, made)
        images.append(source.images)
        references += summary.references
        beside = f" {before} and" if before else ""
        print(
            f"{made}:{beside} {summary.references} references, {summary.points} points, "
            f"{summary.observations} observations ({summary.dropped_observations} outside their "
            f"image), {summary.megabytes:.1f} MB"
        )
        before = str(made)
    print(stages.as_text(references))
    if given.no_check or given.extend or given.refresh:
        return 0
    return _calibrate(output, network, images)


def _build(
    given: argparse.Namespace,
    work: Work,
    levels: Sequence[PyramidLevel],
    number: int,
    before: str | None,
    output: Path,
) -> tuple[Source, BuildSummary]:
    """Make one map of what the arguments name, and of the map `before` where there is one.

    levels: of a new map. number: of several recordings.
    """
    network, folder = work.network, work.folder
    places = None
    with ExitStack() as stack:
        extended = None
        if before is not None:
            extended = stack.enter_context(PixMap(before))
            extended.require(network)
            levels, places = extended.header.levels, extended.places
        source = _source(given, work, number, extended)
    claim(folder)
    told = {"step": "build_map", "version": __version__, **source.provenance}
    name = given.session[number] if given.session else str(source.provenance["name"])
    with ExitStack() as stack:
        built = output
        if before is not None:
            built = output.with_name(f".{output.name.removesuffix(SUFFIX)}.part{SUFFIX}")
            stack.callback(lambda: built.unlink(missing_ok=True))
        total = len(source.model.names)
        with work.stages("network"), tqdm(total=total, unit="image", desc="building") as bar:
            stack.enter_context(_as_named(built, output))
            summary = build_map(
                source.model,
                source.images,
                built,
                network,
                levels,
                min_track_length=given.min_track_length,
                progress=lambda done, total: bar.update(done - bar.n),
                workers=_processes(given, total, network),
                ray=given.ray,
                pieces=folder / "features",
                provenance=[told],
                places=places,
                session=Session(name, source.begun),
            )
        if before is not None:
            old, new = (stack.enter_context(PixMap(path)) for path in (before, built))
            gone = gone_points(old) if given.refresh else np.zeros(old.point_count, bool)
            renew(old, new, output, gone, given.budget_mb, print)
    return source, summary


def _calibrate(output: Path, network: FeatureNetwork, images: Sequence[Path]) -> int:
    """Localize the references against each other, and let the map know how sure it can be."""
    with PixMap(output) as pixmap, tqdm(unit="image", desc="checking") as bar:
        quality = map_quality(Localizer(pixmap, network), *images, progress=bar.update)
    print(quality.as_text())
    if quality.factors is not None:
        write_calibration(output, quality.factors)
    if not quality.usable:
        raise InputError(
            f"{output}: less than half of the references are found by the others; take more "
            "images, with more overlap (the file is kept)"
        )
    return 0
