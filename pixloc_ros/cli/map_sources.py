"""Where the sparse model of a map comes from: what `build_map` is given, to poses and points."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import torch
from tqdm import tqdm

from pixloc_ros.cli.options import parse_camera
from pixloc_ros.datasets import read_poses
from pixloc_ros.datasets.bag_images import BagImages
from pixloc_ros.datasets.bag_poses import BagPoses
from pixloc_ros.datasets.hloc_features import read_keypoints, read_matches
from pixloc_ros.datasets.keyframes import Keyframe, keyframes
from pixloc_ros.datasets.text import ListError, data_lines, finite_numbers, write_text
from pixloc_ros.datasets.transforms_json import read_transforms
from pixloc_ros.errors import InputError
from pixloc_ros.features import FeatureNetwork, default_levels, extract_pyramid, read_image
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import Localizer
from pixloc_ros.mapping import PixMap, SparseModel, read_colmap
from pixloc_ros.mapping.depth_points import add_depth_points
from pixloc_ros.mapping.frame import (
    LEAST,
    find_marker,
    scale_upright,
    to_marker,
    to_positions,
    with_position,
)
from pixloc_ros.mapping.structure import (
    LocalFeatures,
    Workshop,
    adjust,
    apart_by_poses,
    find_images,
)

TOGETHER_S = 0.02
"""Seconds by which a depth image may be off its image."""


class Stages:
    """Seconds that each stage of a build takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    def as_text(self, images: int) -> str:
        parts = ", ".join(f"{name} {s:.1f} s" for name, s in self.seconds.items())
        return f"{sum(self.seconds.values()) / images:.2f} s an image: {parts}"


@dataclass(frozen=True)
class Source:
    """A sparse model with the folder of its images; told: its entry in the map's provenance."""

    model: SparseModel
    images: Path
    told: Mapping[str, object]


def source_of(
    given: argparse.Namespace, work: Path, network: FeatureNetwork, stages: Stages
) -> Source:
    """What the arguments of `build_map` name. Raises InputError."""
    images = Path(given.images) if given.images else work / "images"
    told: dict[str, object] = {}
    made: str | pycolmap.Reconstruction
    if given.colmap:
        kind, name, made = "colmap", given.colmap, given.colmap
    elif given.transforms:
        kind, name = "transforms", given.transforms
        camera, listed = read_transforms(Path(given.transforms), images)
        made = _from_poses(given, images, work, camera, listed, stages)
    elif given.poses:
        kind, name = "poses", given.poses
        made = _from_poses(
            given, images, work, _camera(given), _listed(given.poses, images), stages
        )
    elif given.extend:
        kind, name = "extend", given.images
        with stages("localizing"):
            found = _found(given, images, network)
        made = _from_poses(given, images, work, _camera(given), found, stages)
    elif given.images:
        kind, name = "images", given.images
        made, told["frame"] = _from_images(given, images, work, network, stages)
    else:
        kind, name = "bag", given.bag
        told["frame"] = given.frame
        made = _from_bag(given, images, work, stages)
    model = read_colmap(made)
    if given.depth or given.depth_topic:
        before = len(model.points)
        folder = Path(given.depth) if given.depth else work / "depth"
        unit = given.depth_unit if given.depth else 0.001
        with stages("depth"):
            model = add_depth_points(model, _depth(folder, unit), _gray(images))
        print(f"{len(model.points) - before} points from depth images")
        told["depth_points"] = len(model.points) - before
    return Source(model, images, {"source": kind, "name": Path(name).name, **told})


def _camera(given: argparse.Namespace) -> Camera:
    if not given.camera:
        raise InputError("--poses and --extend need --camera 'MODEL width height params...'")
    return parse_camera(given.camera)


def _listed(path: str, images: Path) -> dict[str, Pose]:
    poses = read_poses(path)
    missing = next((name for name in poses if not (images / name).is_file()), None)
    if missing is not None:
        raise InputError(f"{path}: {missing}: no such image in {images}")
    return poses


def _found(given: argparse.Namespace, images: Path, network: FeatureNetwork) -> dict[str, Pose]:
    """Poses of images that are localized in the map that they are to be added to."""
    camera, poses = _camera(given), {}
    names, skipped = find_images(images, camera)
    with PixMap(given.extend) as pixmap, tqdm(names, unit="image", desc="localizing") as bar:
        known = set(pixmap.names) & set(names)
        if known:
            raise InputError(f"{images}: {min(known)} is in {given.extend} already")
        localizer = Localizer(pixmap, network)
        for name in bar:
            answer = localizer.localize(read_image(images / name), camera)
            if answer.ok:
                poses[name] = answer.cam_from_map
            else:
                skipped[name] = f"{images / name}: not found in the map: {answer.reason}"
    _tell(skipped)
    if len(poses) < LEAST:
        raise InputError(
            f"{images}: {len(poses)} images are found in {given.extend}, {LEAST} are needed"
        )
    return poses


def _tell(skipped: Mapping[str, str]) -> None:
    for reason in skipped.values():
        print(f"left out: {reason}")


def _depth(folder: Path, unit: float) -> Callable[[str], np.ndarray | None]:
    """Reads the depth image beside an image: the same name, as .png."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of depth images")

    def read(name: str) -> np.ndarray | None:
        path = (folder / name).with_suffix(".png")
        if not path.is_file():
            return None
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if depth is None or depth.dtype != np.uint16 or depth.ndim != 2:
            raise InputError(f"{path}: not a depth image (16 bits, one channel)")
        return depth * np.float32(unit)

    return read


def _gray(images: Path) -> Callable[[str], np.ndarray]:
    return lambda name: cv2.cvtColor(read_image(images / name), cv2.COLOR_RGB2GRAY)


def _positions(path: str) -> dict[str, np.ndarray]:
    """Metres by name, from lines `name x y z`."""
    found = {}
    for where, entries in data_lines(path):
        if len(entries) != 4:
            raise ListError(f"{where}: expected 'name x y z'")
        found[entries[0]] = finite_numbers(where, entries[1:])
    return found


def _known_features(given: argparse.Namespace, names: Sequence[str]) -> LocalFeatures | None:
    if not given.features:
        return None
    keypoints = read_keypoints(Path(given.features), names)
    return LocalFeatures(keypoints, read_matches(Path(given.matches), keypoints))


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
    given: argparse.Namespace,
    images: Path,
    work: Path,
    network: FeatureNetwork,
    stages: Stages,
) -> tuple[pycolmap.Reconstruction, str]:
    """The model, and how its frame was found."""
    positions = _positions(given.positions) if given.positions else None
    camera = parse_camera(given.camera) if given.camera else None
    names, skipped = find_images(images, camera)
    _tell(skipped)
    workshop = Workshop(work, images, names, camera)
    workshop.prepare({"features": given.features, "matches": given.matches})
    known = _known_features(given, names)
    # what lacks for the frame is said before hours of work
    if given.gps:
        positions = workshop.positions_by_gps()
    if positions is not None:
        with_position(names, positions)
    if given.marker:
        with stages("finding markers"):
            marker = find_marker(images, names)
    with stages("matching"):
        workshop.match(lambda: _apart_by_looks(images, names, network), known)
    with stages("mapping"):
        model = workshop.map_images()
    print(workshop.registration(model, len(skipped)).as_text())
    if model.num_reg_images() < 0.5 * len(names):
        raise InputError(
            f"{images}: only {model.num_reg_images()} of {len(names)} images hang together; take "
            "images in between"
        )
    if positions is not None:
        used, left = to_positions(model, positions)
        print(f"in the frame of {used} known positions, {left:.3f} m from them (median)")
        return model, "gps" if given.gps else "positions"
    if given.marker:
        views = to_marker(model, marker, given.marker)
        print(f"in the frame of marker {marker.name}, seen in {views} images")
        return model, f"marker {marker.name}"
    if given.scale:
        scale_upright(model, given.scale)
        return model, "scale"
    print("the map has no metres: give --positions, --gps, --marker or --scale for a robot")
    return model, "arbitrary"


def _frames(given: argparse.Namespace, images: BagImages, poses: BagPoses) -> Iterator[Keyframe]:
    for stamp, image in images:
        camera = given.camera_frame or images.frame
        map_from_cam = poses.pose(given.frame, camera, stamp)
        if map_from_cam is not None:
            yield Keyframe(stamp, image, map_from_cam.inverse())


def _from_bag(
    given: argparse.Namespace, images: Path, work: Path, stages: Stages
) -> pycolmap.Reconstruction:
    bag = Path(given.bag)
    with BagImages(bag, given.topic) as recorded:
        poses = BagPoses(bag, given.pose_topic, given.base_frame)
        camera = recorded.camera()
        with stages("keyframes"):
            kept = _extract(given, recorded, poses, images, work)
    return _from_poses(given, images, work, camera, kept, stages)


def _from_poses(
    given: argparse.Namespace,
    images: Path,
    work: Path,
    camera: Camera,
    poses: Mapping[str, Pose],
    stages: Stages,
) -> pycolmap.Reconstruction:
    """Points from images of one camera whose cam_from_map poses are known."""
    names = sorted(poses)
    workshop = Workshop(work, images, names, camera)
    numbers = {name: poses[name].matrix().tolist() for name in names}
    workshop.prepare({"poses": numbers, "features": given.features, "matches": given.matches})
    known = _known_features(given, names)
    with stages("matching"):
        workshop.match(lambda: apart_by_poses([poses[name] for name in names]), known)
    with stages("triangulating"):
        model = workshop.triangulate(poses)
    print(workshop.registration(model, 0).as_text())
    if given.adjust:
        with stages("adjusting"):
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
            *(
                given.depth_topic,
                given.pose_topic,
                given.base_frame,
                given.keyframe_m,
                given.keyframe_deg,
            ),
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
            _, packed = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
            (images / name).write_bytes(packed.tobytes())
            pose = frame.pose
            entries[name] = [*pose.quaternion().tolist(), *pose.translation.tolist()]
    if given.depth_topic:
        stamps = {float(Path(name).stem): name for name in entries}
        _extract_depth(recorded.path, given.depth_topic, stamps, work / "depth")
    if len(entries) < 3:
        raise InputError(
            f"{recorded.path}: {len(entries)} keyframes; the camera hardly moves, or has no poses "
            f"in {given.frame}: --keyframe-m, --frame"
        )
    write_text(listed, json.dumps([facts, entries]))
    print(f"{len(entries)} keyframes of {len(recorded)} images")
    return _posed(entries)


def _extract_depth(bag: Path, topic: str, names: Mapping[float, str], folder: Path) -> None:
    """The depth image nearest in time to each keyframe, in millimetres, as files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stamps = np.array(sorted(names))
    nearest = np.full(len(stamps), TOGETHER_S)
    with BagImages(bag, topic, encoding="") as recorded:
        for stamp, image in recorded:
            number = int(np.abs(stamps - stamp).argmin())
            apart = abs(stamps[number] - stamp)
            if apart >= nearest[number]:
                continue
            if image.ndim != 2 or image.dtype not in (np.uint16, np.float32):
                raise InputError(f"{bag}: {topic}: not depth images (16UC1 or 32FC1)")
            nearest[number] = apart
            millimetres = (
                image if image.dtype == np.uint16 else 1000 * np.nan_to_num(image, posinf=0.0)
            )
            path = (folder / names[float(stamps[number])]).with_suffix(".png")
            _, packed = cv2.imencode(".png", np.clip(millimetres, 0, 65535).astype(np.uint16))
            path.write_bytes(packed.tobytes())


def _posed(entries: Mapping[str, Sequence[float]]) -> dict[str, Pose]:
    return {name: Pose.from_quaternion(e[:4], e[4:]) for name, e in entries.items()}
