"""A recording of images and poses: keyframes, and points by triangulation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from pixloc_ros.datasets.bag_images import BagImages
from pixloc_ros.datasets.bag_poses import BagPoses
from pixloc_ros.datasets.keyframes import Keyframe, keyframes
from pixloc_ros.datasets.text import write_text
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, CameraError, Lens, Pose
from pixloc_ros.identity import identity_of
from pixloc_ros.left_out import LeftOut
from pixloc_ros.mapping.sources.extend import Locate
from pixloc_ros.mapping.sources.hloc import HlocFeatures
from pixloc_ros.mapping.sources.onto_map import onto_map
from pixloc_ros.mapping.sources.poses import triangulate
from pixloc_ros.mapping.sources.source import Source, Work, claim
from pixloc_ros.sensors import read_image, require_size
from pixloc_ros.sensors.frames import frame_name

TOGETHER_S = 0.02
"""Seconds by which a depth image may be off its image."""


@dataclass(frozen=True)
class FromBag:
    """A recording, and which of its topics and frames count.

    topic: of the images; pose_topic: poses of the base frame instead of TF. frame: of the map.
    camera_frame: instead of what the images say. rectified: the images are undistorted; None
    where the name of the topic tells it. keyframe_m, keyframe_deg: how far apart keyframes are.
    camera: instead of the recorded camera_info. onto: localizes images in a map of the same place,
    which has them in its frame then; under: folder of their names, so that those of several
    recordings differ.
    """

    bag: Path
    topic: str = ""
    pose_topic: str = ""
    depth_topic: str = ""
    frame: str = "map"
    base_frame: str = "base_link"
    camera_frame: str = ""
    rectified: bool | None = None
    keyframe_m: float = 0.3
    keyframe_deg: float = 10.0
    camera: Camera | None = None
    known: HlocFeatures | None = None
    adjusted: bool = False
    onto: Locate | None = None
    under: str = ""

    def build(self, work: Work) -> Source:
        """Raises InputError. Messages that cannot be used cost only themselves."""
        images = work.folder / "images"
        with BagImages(self.bag, self.topic, rectified=self.rectified) as recorded:
            poses = BagPoses(self.bag, self.pose_topic, self.base_frame, recorded.topic)
            camera = recorded.camera() if self.camera is None else self.camera
            for note in recorded.notes:
                work.say(note)
            work.say_left_out(poses.left_out)
            with work.stages("keyframes"):
                kept = self._extract(recorded, poses, camera, work, images)
        taken = _Undistorted.of(camera).camera
        begun = min(_stamp(name) for name in kept)
        if self.onto is not None:
            kept = self._found(self.onto, kept, taken, work, images)
        cameras = dict.fromkeys(kept, taken)
        model = triangulate(work, images, cameras, kept, self.known, self.adjusted)
        told = {"source": "bag", "name": self.bag.name, "frame": frame_name(self.frame)}
        return Source(model, images, told, begun)

    def _found(
        self, locate: Locate, poses: Mapping[str, Pose], camera: Camera, work: Work, images: Path
    ) -> Mapping[str, Pose]:
        """The keyframes in the frame of the map that `locate` knows."""
        left_out = LeftOut("keyframe")
        names = sorted(poses, key=_stamp)
        with work.stages("localizing"):
            bar = work.bar(names, total=len(names), unit="image", desc="localizing")
            looked = {name: locate(read_image(images / name), camera)[0] for name in bar}
            found = {name: pose for name, pose in looked.items() if pose is not None}
            placed = onto_map({name: poses[name] for name in names}, found, left_out)
        work.say_left_out(left_out)
        work.say(
            f"{self.bag}: {len(found)} of {len(names)} keyframes are found in the map, "
            f"{len(placed)} are placed in it"
        )
        return placed

    def _extract(
        self, recorded: BagImages, poses: BagPoses, camera: Camera, work: Work, images: Path
    ) -> Mapping[str, Pose]:
        """Keyframes as files, and their poses; those of an earlier run of the same are kept."""
        settings = {k: v for k, v in asdict(self).items() if k not in ("camera", "known", "onto")}
        facts = json.dumps(
            [
                {**settings, "bag": str(self.bag.resolve()), "topic": recorded.topic},
                identity_of(self.bag),
                [int(camera.lens), camera.numbers().tolist()],
            ]
        )
        listed = work.folder / "keyframes.json"
        if listed.is_file():
            try:
                before, entries = json.loads(listed.read_text())
                if before == facts and all((images / name).is_file() for name in entries):
                    return _posed(entries)
            except (ValueError, TypeError, AttributeError):
                pass
        claim(work.folder)
        shutil.rmtree(images, ignore_errors=True)
        (images / self.under).mkdir(parents=True)
        undistorted, entries = _Undistorted.of(camera), {}
        frames = work.bar(
            self._frames(recorded, poses, camera),
            total=len(recorded),
            unit="image",
            desc="choosing",
        )
        for frame in keyframes(
            (f for f in frames if f is not None), self.keyframe_m, self.keyframe_deg
        ):
            name = str(Path(self.under) / f"{frame.stamp:.6f}.jpg")
            if name in entries:
                recorded.left_out.add("of the same stamp as another", name)
                continue
            bgr = cv2.cvtColor(undistorted(frame.image), cv2.COLOR_RGB2BGR)
            _, packed = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
            (images / name).write_bytes(packed.tobytes())
            pose = frame.pose
            entries[name] = [*pose.quaternion().tolist(), *pose.translation.tolist()]
        work.say_left_out(recorded.left_out)
        if len(entries) < 3:
            why = f" ({recorded.left_out.most})" if recorded.left_out else ""
            raise InputError(
                f"{recorded.path}: {len(entries)} keyframes{why}; the camera hardly moves, or has "
                f"no poses in {frame_name(self.frame)}: --keyframe-m, --frame"
            )
        if self.depth_topic:
            stamps = {_stamp(name): name for name in entries}
            left_out = extract_depth(
                *(self.bag, self.depth_topic, stamps, work.folder / "depth"),
                lambda depth: undistorted(depth, nearest=True),
            )
            work.say_left_out(left_out)
        write_text(listed, json.dumps([facts, entries]))
        work.say(f"{len(entries)} keyframes of {len(recorded)} images")
        return _posed(entries)

    def _frames(
        self, recorded: BagImages, poses: BagPoses, camera: Camera
    ) -> Iterator[Keyframe | None]:
        """One for each image that is read; None for one that cannot be a keyframe."""
        target = frame_name(self.frame)
        for stamp, image in recorded:
            try:
                where = f"{recorded.topic} at {stamp:.3f} s"
                require_size(camera, image.shape[1], image.shape[0], where)
            except CameraError as error:
                recorded.left_out.add("of another size than the camera", str(error))
                yield None
                continue
            frame = frame_name(self.camera_frame) or recorded.frame
            try:
                map_from_cam = poses.pose(target, frame, stamp)
            except InputError as error:
                recorded.left_out.add("of a frame without a pose", str(error))
                yield None
                continue
            if map_from_cam is None:
                recorded.left_out.add("without a pose at their stamp", where)
                yield None
                continue
            yield Keyframe(stamp, image, map_from_cam.inverse())


def extract_depth(
    bag: Path,
    topic: str,
    names: Mapping[float, str],
    folder: Path,
    undistorted: Callable[[np.ndarray], np.ndarray] = lambda depth: depth,
) -> LeftOut:
    """The depth image nearest in time to each stamp (seconds), in millimetres, as .png files.

    names: of the files, by stamp; undistorted: what is done to each. Returns what was left out;
    raises InputError where that is all there is.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stamps = np.array(sorted(names))
    nearest, read = np.full(len(stamps), TOGETHER_S), 0
    with BagImages(bag, topic, depth=True) as recorded:
        recorded.left_out.what = "depth image"
        for stamp, depth in recorded:
            read += 1
            number = int(np.abs(stamps - stamp).argmin())
            apart = abs(stamps[number] - stamp)
            if apart >= nearest[number]:
                continue
            nearest[number] = apart
            millimetres = np.clip(np.rint(1000 * undistorted(depth)), 0, 65535)
            _, packed = cv2.imencode(".png", millimetres.astype(np.uint16))
            path = (folder / names[float(stamps[number])]).with_suffix(".png")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(packed.tobytes())
        if not read:
            raise InputError(f"{bag}: {topic}: {recorded.left_out.most or 'no images'}")
        return recorded.left_out


@dataclass(frozen=True)
class _Undistorted:
    """Images as a camera that COLMAP knows would have taken them.

    camera: that one. maps: where its pixels come from; None where it is the camera itself.
    """

    camera: Camera
    maps: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(cls, camera: Camera) -> _Undistorted:
        if camera.colmap() is not None:
            return cls(camera)
        width, height = (int(v) for v in camera.size.tolist())
        plain = Camera.of(
            Lens.PERSPECTIVE, (width, height), camera.focal.tolist(), camera.centre.tolist()
        )
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        pixels = torch.stack([columns, rows], -1).reshape(-1, 2).double() + 0.5
        rays, _ = plain.unproject(pixels)
        source, _ = camera.project(rays)
        maps = (source - 0.5).float().reshape(height, width, 2).numpy()
        return cls(plain, (maps[..., 0], maps[..., 1]))

    def __call__(self, image: np.ndarray, nearest: bool = False) -> np.ndarray:
        if self.maps is None:
            return image
        how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        return cv2.remap(image, *self.maps, how)


def _stamp(name: str) -> float:
    """Of a keyframe, seconds."""
    return float(Path(name).stem)


def _posed(entries: Mapping[str, list[float]]) -> dict[str, Pose]:
    return {name: Pose.from_quaternion(e[:4], e[4:]) for name, e in entries.items()}
