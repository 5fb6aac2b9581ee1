"""`build_map`: images, or a recording, or a COLMAP model with its images -> one map file."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import torch
from tqdm import tqdm

from pixloc_ros.cli.options import Parser, network_of, parse_camera, require_outputs
from pixloc_ros.datasets.bag_images import BagImages
from pixloc_ros.datasets.bag_poses import BagPoses
from pixloc_ros.datasets.keyframes import Keyframe, keyframes
from pixloc_ros.datasets.text import ListError, data_lines, finite_numbers, write_text
from pixloc_ros.datasets.transforms_json import read_transforms
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.map_quality import map_quality
from pixloc_ros.features import (
    FeatureNetwork,
    PyramidLevel,
    default_levels,
    extract_pyramid,
    read_image,
)
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import Localizer
from pixloc_ros.mapping import PixMap, build_map, read_colmap
from pixloc_ros.mapping.schema import SUFFIX
from pixloc_ros.mapping.structure import (
    Workshop,
    adjust,
    apart_by_poses,
    find_images,
    scale_upright,
    to_positions,
)


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


def _positions(path: str) -> dict[str, np.ndarray]:
    """Metres by name, from lines `name x y z`."""
    found = {}
    for where, fields in data_lines(path):
        if len(fields) != 4:
            raise ListError(f"{where}: expected 'name x y z'")
        found[fields[0]] = finite_numbers(where, fields[1:])
    return found


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
    parser.add_argument("--bag", metavar="BAG", help="recording with images and poses")
    parser.add_argument("--output", required=True, metavar=f"FILE{SUFFIX}")
    parser.add_argument(
        "--work", metavar="DIR", help="what lies in between (default: beside the output)"
    )
    parser.add_argument(
        "--min-track-length",
        type=int,
        default=3,
        metavar="N",
        help="keep points that at least N references see (default 3)",
    )
    parser.add_argument(
        "--levels",
        metavar="SIZE:LEVEL,...",
        help="steps of alignment, coarse to fine: longest image side and level of the network "
        "(default: the network's own)",
    )
    parser.add_argument(
        "--no-check",
        action="store_true",
        help="do not localize the references against each other (nor with --colmap)",
    )
    parser.add_argument(
        "--adjust", action="store_true", help="refine known poses by bundle adjustment"
    )
    frame = parser.add_argument_group("of images alone")
    frame.add_argument(
        "--camera",
        metavar="'MODEL w h params'",
        help="that took all of them (default: COLMAP estimates it)",
    )
    frame.add_argument(
        "--positions", metavar="FILE", help="lines 'name x y z': where images are, in metres"
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
    bag.add_argument("--keyframe-m", type=float, default=0.3, metavar="M", help="(default 0.3)")
    bag.add_argument("--keyframe-deg", type=float, default=10.0, metavar="D", help="(default 10)")
    parser.add_network()
    return parser


def run(arguments: Sequence[str]) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    if bool(given.images) == bool(given.bag):
        raise InputError("give --images DIR (with or without --colmap DIR), or --bag BAG")
    if given.bag and (given.colmap or given.transforms):
        raise InputError("--colmap and --transforms go with --images")
    if given.colmap and given.transforms:
        raise InputError("--colmap or --transforms, not both")
    posed = given.bag or given.colmap or given.transforms
    if (given.positions or given.scale or given.camera) and posed:
        raise InputError("--camera, --positions and --scale are for --images alone")
    if given.positions and given.scale:
        raise InputError("--positions or --scale, not both")
    if given.scale is not None and not given.scale > 0:
        raise InputError(f"--scale {given.scale}: positive")
    if not (given.keyframe_m > 0 and given.keyframe_deg > 0):
        raise InputError("--keyframe-m and --keyframe-deg are positive")
    if given.min_track_length < 1:
        raise InputError(f"--min-track-length {given.min_track_length}: at least 1")
    require_outputs([given.output], [given.weights, given.positions])
    if not given.output.endswith(SUFFIX):
        raise InputError(f"{given.output}: the name of a map file ends in {SUFFIX}")
    network = network_of(given)
    levels = _levels(given.levels, len(network.strides)) if given.levels else None
    work = Path(given.work or given.output.removesuffix(SUFFIX) + ".work")
    images = Path(given.images) if given.images else work / "images"
    source: str | pycolmap.Reconstruction
    if given.colmap:
        source = given.colmap
    elif given.transforms:
        camera, listed = read_transforms(Path(given.transforms), images)
        source = _from_poses(given, images, work, camera, listed)
    elif given.images:
        source = _from_images(given, images, work, network)
    else:
        source = _from_bag(given, images, work)
    model = read_colmap(source)
    with tqdm(total=len(model.names), unit="image", desc="building") as bar:
        summary = build_map(
            model,
            images,
            given.output,
            network,
            levels,
            min_track_length=given.min_track_length,
            progress=lambda done, total: bar.update(done - bar.n),
        )
    print(
        f"{given.output}: {summary.references} references, {summary.points} points, "
        f"{summary.observations} observations ({summary.dropped_observations} outside their "
        f"image), {summary.megabytes:.1f} MB"
    )
    if given.no_check or given.colmap:
        return 0
    with PixMap(given.output) as pixmap, tqdm(unit="image", desc="checking") as bar:
        quality = map_quality(Localizer(pixmap, network), images, bar.update)
    print(quality.as_text())
    if not quality.usable:
        raise InputError(
            f"{given.output}: less than half of the references are found by the others; take "
            "more images, with more overlap (the file is kept)"
        )
    return 0


def _apart_by_looks(images: Path, names: Sequence[str], network: FeatureNetwork) -> np.ndarray:
    """By the network's global descriptor, (n, n)."""
    descriptors = []
    for name in tqdm(names, unit="image", desc="comparing"):
        pyramid = extract_pyramid(network, read_image(images / name), [default_levels(network)[0]])
        descriptors.append(pyramid.descriptor.cpu())
    together = torch.stack(descriptors)
    together = torch.nn.functional.normalize(together - together.mean(0), dim=-1)
    return (1 - together @ together.T).numpy()


def _from_images(
    given: argparse.Namespace, images: Path, work: Path, network: FeatureNetwork
) -> pycolmap.Reconstruction:
    names, skipped = find_images(images)
    positions = _positions(given.positions) if given.positions else None
    camera = parse_camera(given.camera) if given.camera else None
    workshop = Workshop(work, images, names, camera)
    workshop.prepare({})
    workshop.match(lambda: _apart_by_looks(images, names, network))
    model = workshop.map_images()
    told = workshop.registration(model, skipped)
    print(told.as_text())
    if model.num_reg_images() < 0.5 * len(names):
        raise InputError(
            f"{images}: only {model.num_reg_images()} of {len(names)} images hang together; take "
            "images in between"
        )
    if positions is not None:
        used, left = to_positions(model, positions)
        print(f"in the frame of {used} known positions, {left:.3f} m from them (median)")
    elif given.scale:
        scale_upright(model, given.scale)
    else:
        print("the map has no metres: give --positions or --scale for a robot")
    return model


def _frames(given: argparse.Namespace, images: BagImages, poses: BagPoses) -> Iterator[Keyframe]:
    for stamp, image in images:
        camera = given.camera_frame or images.frame
        map_from_cam = poses.pose(given.frame, camera, stamp)
        if map_from_cam is not None:
            yield Keyframe(stamp, image, map_from_cam.inverse())


def _from_bag(given: argparse.Namespace, images: Path, work: Path) -> pycolmap.Reconstruction:
    bag = Path(given.bag)
    with BagImages(bag, given.topic) as recorded:
        poses = BagPoses(bag, given.pose_topic, given.base_frame)
        camera = recorded.camera()
        kept = _extract(given, recorded, poses, images, work)
    return _from_poses(given, images, work, camera, kept)


def _from_poses(
    given: argparse.Namespace,
    images: Path,
    work: Path,
    camera: Camera,
    poses: Mapping[str, Pose],
) -> pycolmap.Reconstruction:
    """Points from images of one camera whose cam_from_map poses are known."""
    names = sorted(poses)
    workshop = Workshop(work, images, names, camera)
    numbers = {name: poses[name].matrix().tolist() for name in names}
    workshop.prepare({"poses": numbers})
    workshop.match(lambda: apart_by_poses([poses[name] for name in names]))
    model = workshop.triangulate(poses)
    print(workshop.registration(model, {}).as_text())
    if given.adjust:
        adjust(model)
        print(f"after bundle adjustment {model.compute_mean_reprojection_error():.2f} px")
    return model


def _extract(
    given: argparse.Namespace, recorded: BagImages, poses: BagPoses, images: Path, work: Path
) -> Mapping[str, Pose]:
    """Keyframes as files, and their poses; those of an earlier run of the same kind are kept."""
    facts = json.dumps(
        [
            *(str(recorded.path.resolve()), recorded.topic, given.frame, given.camera_frame),
            *(given.pose_topic, given.base_frame, given.keyframe_m, given.keyframe_deg),
        ]
    )
    listed = work / "keyframes.json"
    if listed.is_file():
        try:
            before, entries = json.loads(listed.read_text())
            if before == facts and all((images / name).is_file() for name in entries):
                return _posed(entries)
        except (ValueError, TypeError, AttributeError):
            pass
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir(parents=True)
    entries = {}
    with tqdm(total=len(recorded), unit="image", desc="choosing") as bar:

        def counted() -> Iterator[Keyframe]:
            for frame in _frames(given, recorded, poses):
                bar.update()
                yield frame

        for frame in keyframes(counted(), given.keyframe_m, given.keyframe_deg):
            name = f"{frame.stamp:.6f}.jpg"
            bgr = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(images / name), bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
            pose = frame.pose
            entries[name] = [*pose.quaternion().tolist(), *pose.translation.tolist()]
    if len(entries) < 3:
        raise InputError(
            f"{recorded.path}: {len(entries)} keyframes; the camera hardly moves, or has no poses "
            f"in {given.frame}: --keyframe-m, --frame"
        )
    write_text(listed, json.dumps([facts, entries]))
    print(f"{len(entries)} keyframes of {len(recorded)} images")
    return _posed(entries)


def _posed(entries: Mapping[str, Sequence[float]]) -> dict[str, Pose]:
    return {name: Pose.from_quaternion(e[:4], e[4:]) for name, e in entries.items()}
