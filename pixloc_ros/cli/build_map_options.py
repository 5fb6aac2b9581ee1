"""What `build_map` can be told, and what of it goes together."""

from __future__ import annotations

import argparse

from pixloc_ros.cli.options import CAMERA, Parser, require_outputs
from pixloc_ros.errors import InputError
from pixloc_ros.features import PyramidLevel
from pixloc_ros.mapping.schema import SUFFIX


def parse_levels(text: str, count: int) -> list[PyramidLevel]:
    levels = []
    for part in text.split(","):
        size, _, number = part.partition(":")
        if not (size.isdecimal() and number.isdecimal() and int(size) >= 32):
            raise InputError(f"--levels {part!r}: expected SIZE:LEVEL with a size from 32")
        if int(number) >= count:
            raise InputError(f"--levels {part!r}: the network has levels 0 to {count - 1}")
        levels.append(PyramidLevel(int(size), int(number)))
    return levels


def make_parser() -> Parser:
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
    parser.add_argument(
        "--bag",
        nargs="+",
        action="extend",
        metavar="BAG",
        help="recording with images and poses; of several, those after the first are localized in "
        "the map of those before and added to it",
    )
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
    parser.add_argument(
        "--session",
        nargs="+",
        metavar="NAME",
        help="what to call when these images were taken, as night or 2026-winter; of several "
        "bags, one a bag (default: the name of the input)",
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


def check(given: argparse.Namespace) -> None:
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
    count = len(given.bag or [""])
    if given.session and len(given.session) != count:
        raise InputError(f"--session: {len(given.session)} names, for {count} inputs")
    if count > 1 and given.depth_topic:
        raise InputError("--depth-topic is for one bag")
    if count > 1 and given.features:
        raise InputError("--features are for one bag")
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
