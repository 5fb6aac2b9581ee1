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
from pixloc_ros.cli.options import CAMERA, Parser, network_of, parse_camera, require_outputs
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.map_quality import map_quality
from pixloc_ros.features import FeatureNetwork, PyramidLevel, default_levels
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import Localizer, Prior
from pixloc_ros.mapping import PixMap, build_map
from pixloc_ros.mapping.calibration import write_calibration
from pixloc_ros.mapping.renewal import gone_points, renew
from pixloc_ros.mapping.schema import SUFFIX
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
    Work,
)
from pixloc_ros.mapping.sources.depth import DepthFolder
from pixloc_ros.mapping.sources.extend import Locate
from pixloc_ros.mapping.sources.refresh import LocateFrom
from pixloc_ros.mapping.sources.source import claim, require_own

MANY = 60
"""Images from which on processes of their own are worth starting."""


def _levels(text: str, count: int) -> list[PyramidLevel]:
    levels = []
    for part in text.split(","):
        size, _, number = part.partition(":")
        if not (size.isdecimal() and number.isdecimal() and int(size) >= 32):
            raise InputError(f"--levels {part!r}: expected SIZE:LEVEL with a size from 32")
        if int(number) >= count:
            raise InputError(f"--levels {part!r}: the network has levels 0 to {count - 1}")
        levels.append(PyramidLevel(int(size), int(number)))
    return levels


def _parser() -> Parser:
    parser = Parser(
        "build_map", "Build a map file from images, from a bag, or from a COLMAP model."
    )
    parser.add_argument(
        "--images", metavar="DIR", help="folder of images; alone, COLMAP maps them"
    )
    parser.add_argument("--colmap", metavar="DIR", help="model of --images (.bin or .txt)")
    parser.add_argument(
        "--transforms", metavar="FILE.json", help="poses of --images, as nerfstudio lists them"
    )
    parser.add_argument(
        "--poses", metavar="FILE", help="poses of --images, as localize writes them"
    )
    parser.add_argument(
        "--extend", metavar="MAP", help="add --images, which are localized in it, to this map"
    )
    parser.add_argument(
        "--refresh",
        metavar="MAP",
        help="make this map new by --images, which a node kept (parameter keep_frames): they are "
        "added, and what drives found gone is left out",
    )
    parser.add_argument(
        "--budget-mb", type=float, metavar="MB", help="largest size of a map with --refresh"
    )
    parser.add_argument("--bag", metavar="BAG", help="recording with images and poses")
    parser.add_argument("--output", required=True, metavar=f"FILE{SUFFIX}")
    parser.add_argument(
        "--work",
        metavar="DIR",
        help="a folder of its own for what lies in between (default: beside the output)",
    )
    parser.add_argument(
        "--min-track-length",
        type=int,
        default=3,
        metavar="N",
        help="keep points that at least N references see (default 3)",
    )
    parser.add_argument(
        "--speed",
        choices=("fast", "accurate", "exact"),
        help="of localizing in the map: fast looks at smaller images, for processors that are "
        "weak or busy; exact at ones of up to 1024 pixels (default accurate)",
    )
    parser.add_argument(
        "--levels",
        metavar="SIZE:LEVEL,...",
        help="steps of alignment, coarse to fine: longest image side and level of the network "
        "(default: the network's own, of --speed)",
    )
    parser.add_argument(
        "--no-check",
        action="store_true",
        help="do not localize the references against each other (nor with --colmap)",
    )
    parser.add_argument(
        "--adjust", action="store_true", help="refine known poses by bundle adjustment"
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="that run the network, 0 for this one alone (default: one a core for many images)",
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS", default="", help="spread the processes over a Ray cluster"
    )
    points = parser.add_argument_group("points")
    points.add_argument("--features", metavar="FILE.h5", help="hloc's, instead of SIFT")
    points.add_argument("--matches", metavar="FILE.h5", help="hloc's, of --features")
    points.add_argument(
        "--depth", metavar="DIR", help="depth images named as --images, registered to them, .png"
    )
    points.add_argument(
        "--depth-unit", type=float, default=0.001, metavar="M", help="metres (default 0.001)"
    )
    parser.add_argument(
        "--camera",
        metavar=CAMERA,
        help="that took all images: a calibration of Kalibr or camera_calibration (FILE:cam1 of "
        "several), or COLMAP's model and parameters",
    )
    frame = parser.add_argument_group("of images alone")
    frame.add_argument(
        "--positions", metavar="FILE", help="lines 'name x y z': where images are, in metres"
    )
    frame.add_argument(
        "--gps", action="store_true", help="positions by their EXIF: metres east, north, up"
    )
    frame.add_argument(
        "--gps-altitude",
        type=float,
        metavar="M",
        help="of images whose GPS has none (default: the others' median, or 0)",
    )
    frame.add_argument(
        "--marker",
        type=float,
        metavar="M",
        help="side of an ArUco or AprilTag marker in some of them: the origin, z out of it",
    )
    frame.add_argument(
        "--scale", type=float, metavar="F", help="metres per unit of COLMAP; z goes up"
    )
    bag = parser.add_argument_group("of a bag")
    bag.add_argument("--topic", default="", help="of the images")
    bag.add_argument("--pose-topic", default="", help="poses of the base, instead of TF")
    bag.add_argument("--frame", default="map", help="frame of the map (default: map)")
    bag.add_argument("--base-frame", default="base_link", metavar="FRAME")
    bag.add_argument("--camera-frame", default="", metavar="FRAME", help="instead of the images'")
    bag.add_argument(
        "--rectified",
        action=argparse.BooleanOptionalAction,
        help="the images are undistorted: P of camera_info counts (default: as the topic's name "
        "tells, image_rect)",
    )
    bag.add_argument("--depth-topic", default="", help="of depth images, registered to the others")
    bag.add_argument("--keyframe-m", type=float, default=0.3, metavar="M", help="(default 0.3)")
    bag.add_argument("--keyframe-deg", type=float, default=10.0, metavar="D", help="(default 10)")
    parser.add_network()
    return parser


def _check(given: argparse.Namespace) -> None:
    """Raise InputError for arguments that do not go together."""
    if bool(given.images) == bool(given.bag):
        raise InputError("give --images DIR (with or without --colmap DIR), or --bag BAG")
    every = ("colmap", "transforms", "poses", "extend", "refresh")
    kinds = [name for name in every if getattr(given, name)]
    if len(kinds) > 1:
        raise InputError(f"--{kinds[0]} or --{kinds[1]}, not both")
    if given.bag and kinds:
        raise InputError(f"--{kinds[0]} goes with --images")
    frames = [name for name in ("positions", "gps", "marker", "scale") if getattr(given, name)]
    if len(frames) > 1:
        raise InputError(f"--{frames[0]} or --{frames[1]}, not both")
    if frames and (given.bag or kinds):
        raise InputError(f"--{frames[0]} is for --images alone")
    if given.camera and (given.colmap or given.transforms or given.refresh):
        raise InputError("--camera is for --bag, or --images alone or with --poses or --extend")
    if (given.poses or given.extend) and not given.camera:
        raise InputError(f"--poses and --extend need --camera {CAMERA}")
    if given.gps_altitude is not None and not given.gps:
        raise InputError("--gps-altitude goes with --gps")
    if given.gps_altitude is not None and not abs(given.gps_altitude) < 1e5:
        raise InputError(f"--gps-altitude {given.gps_altitude}: metres")
    if given.rectified is not None and not given.bag:
        raise InputError("--rectified is for --bag")
    if bool(given.features) != bool(given.matches):
        raise InputError("--features and --matches go together")
    if (given.extend or given.refresh) and (given.levels or given.speed):
        raise InputError("--levels and --speed are those of the map with --extend or --refresh")
    if given.budget_mb is not None and not (given.refresh and given.budget_mb > 0):
        raise InputError("--budget-mb goes with --refresh, and is positive")
    if given.refresh and (given.features or given.depth or given.adjust):
        raise InputError("--refresh takes no --features, --depth or --adjust")
    if given.levels and given.speed:
        raise InputError("--levels or --speed, not both")
    if given.features and given.colmap:
        raise InputError("--features are for maps without --colmap")
    if given.depth_topic and not given.bag:
        raise InputError("--depth-topic is for --bag")
    if given.depth and not given.images:
        raise InputError("--depth is for --images")
    for name in ("scale", "marker", "keyframe_m", "keyframe_deg", "depth_unit"):
        value = getattr(given, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name.replace('_', '-')} {value}: positive")
    if given.min_track_length < 1:
        raise InputError(f"--min-track-length {given.min_track_length}: at least 1")
    if given.processes is not None and not 0 <= given.processes <= 1024:
        raise InputError(f"--processes {given.processes}: 0 to 1024")
    inputs = [given.weights, given.positions, given.poses, given.extend, given.refresh]
    require_outputs([given.output], [*inputs, given.features, given.matches])
    if not given.output.endswith(SUFFIX):
        raise InputError(f"{given.output}: the name of a map file ends in {SUFFIX}")


def _processes(given: argparse.Namespace, references: int, network: FeatureNetwork) -> int:
    """One a core, where there is enough to do; a GPU is fed by this one."""
    if given.processes is not None:
        return int(given.processes)
    if network.device.type != "cpu" or references < MANY:
        return 0
    return len(os.sched_getaffinity(0))


def _source(
    given: argparse.Namespace, work: Work, network: FeatureNetwork, extended: PixMap | None
) -> Source:
    """What the arguments name, built. Raises InputError."""
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
    elif extended is not None:
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
        source = FromBag(
            Path(given.bag),
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
    given = _parser().parse_args(arguments)
    _check(given)
    network = network_of(given)
    levels: Sequence[PyramidLevel] = default_levels(network, given.speed or "accurate")
    if given.levels:
        levels = _levels(given.levels, len(network.strides))
    output = Path(given.output)
    folder = Path(given.work or given.output.removesuffix(SUFFIX) + ".work")
    require_own(folder)
    work = Work(folder, network, print, _bar)
    stages = work.stages
    places = None
    with ExitStack() as stack:
        extended = None
        if given.extend or given.refresh:
            extended = stack.enter_context(PixMap(given.extend or given.refresh))
            extended.require(network)
            levels, places = extended.header.levels, extended.places
        source = _source(given, work, network, extended)
    claim(folder)
    told = {"step": "build_map", "version": __version__, **source.provenance}
    with ExitStack() as stack:
        built = output
        if extended is not None:
            built = output.with_name(f".{output.name.removesuffix(SUFFIX)}.part{SUFFIX}")
            stack.callback(lambda: built.unlink(missing_ok=True))
        total = len(source.model.names)
        with stages("network"), tqdm(total=total, unit="image", desc="building") as bar:
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
            )
        if extended is not None:
            old, new = (
                stack.enter_context(PixMap(path))
                for path in (given.extend or given.refresh, built)
            )
            gone = gone_points(old) if given.refresh else np.zeros(old.point_count, bool)
            renew(old, new, output, gone, given.budget_mb, print)
    before = f" {given.extend or given.refresh} and" if extended is not None else ""
    print(
        f"{output}:{before} {summary.references} references, {summary.points} points, "
        f"{summary.observations} observations ({summary.dropped_observations} outside their "
        f"image), {summary.megabytes:.1f} MB"
    )
    print(stages.as_text(summary.references))
    if given.no_check or extended is not None:
        return 0
    with PixMap(output) as pixmap, tqdm(unit="image", desc="checking") as bar:
        quality = map_quality(Localizer(pixmap, network), source.images, bar.update)
    print(quality.as_text())
    if quality.factors is not None:
        write_calibration(output, quality.factors)
    if not quality.usable:
        raise InputError(
            f"{output}: less than half of the references are found by the others; take more "
            "images, with more overlap (the file is kept)"
        )
    return 0
