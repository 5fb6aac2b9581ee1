"""A room that renders itself: a mapped place and a drive through it, with exact ground truth.

The photographs on its walls come with scikit-image (astronaut, hubble, moon: public domain;
chelsea, coffee, rocket, camera, brick, grass, gravel: CC0) and are not part of this package.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import torch

from pixloc_ros.datasets.hloc_lists import write_poses
from pixloc_ros.datasets.photographs import sample_photographs
from pixloc_ros.datasets.raycast import Box, Scene
from pixloc_ros.datasets.text import write_text
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, Pose

ROOM = (8.0, 6.0, 2.8)
PIXELS_PER_METRE = 160
INTRINSICS = ("PINHOLE", 640, 480, (520.0, 520.0, 320.0, 240.0))
CAMERA_HEIGHT = 1.1
FRAME_RATE, ODOMETRY_RATE = 10.0, 50.0
OPTICAL = ((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
"""base_from_cam rotation of a camera that looks ahead (REP-103: x forward, z up)."""

Progress = Callable[[str, int, int], None]


class Painter:
    """Paints faces: a material of low contrast, pictures of many sizes on it."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._pictures, self._materials = sample_photographs()

    def face(self, width: float, height: float, pictures: float) -> np.ndarray:
        """An image of a face in metres; pictures: how many of them a square metre."""
        random = self._random
        w, h = (max(int(v * PIXELS_PER_METRE), 16) for v in (width, height))
        material = self._materials[random.integers(len(self._materials))]
        tint = random.uniform(90, 215, 3)
        tiles = np.tile(material, (h // material.shape[0] + 1, w // material.shape[1] + 1, 1))
        grain = tiles[:h, :w].astype(np.float32)
        face = tint + random.uniform(0.15, 0.5) * (grain - grain.mean())
        for _ in range(round(pictures * width * height)):
            self.hang(face)
        return np.clip(face, 0, 255).astype(np.uint8)

    def hang(self, face: np.ndarray, picture: np.ndarray | None = None) -> None:
        """Hang a picture, one of the painter's unless it is given, somewhere on a face."""
        if picture is None:
            picture = self._pictures[self._random.integers(len(self._pictures))]
        random = self._random
        side = random.uniform(0.25, 0.9) * PIXELS_PER_METRE
        w, h = (int(side * random.uniform(0.7, 1.3)) for _ in range(2))
        h, w = min(h, face.shape[0]), min(w, face.shape[1])
        share = random.uniform(0.35, 0.9)
        ch, cw = (int(share * s) for s in picture.shape[:2])
        y, x = random.integers(picture.shape[0] - ch), random.integers(picture.shape[1] - cw)
        crop = picture[y : y + ch, x : x + cw]
        crop = np.rot90(crop, int(random.integers(4)))[:, :: random.choice([-1, 1])]
        crop = cv2.resize(np.ascontiguousarray(crop), (w, h), interpolation=cv2.INTER_AREA)
        top, left = random.integers(face.shape[0] - h + 1), random.integers(face.shape[1] - w + 1)
        face[top : top + h, left : left + w] = crop * random.uniform(0.7, 1.1, 3)


def make_room(seed: int) -> Scene:
    """The room with its furniture along the walls; the middle is free to drive."""
    random = np.random.default_rng(seed)
    return Scene(room_boxes(random, Painter(random)))


def room_boxes(random: np.random.Generator, paint: Painter) -> list[Box]:
    """The room itself, and ten pieces of furniture."""

    def box(
        centre: tuple[float, float, float],
        size: tuple[float, float, float],
        yaw: float,
        inside: bool,
    ) -> Box:
        x, y, z = size
        density = (1.1, 1.1, 1.1, 1.1, 0.25, 0.25) if inside else (2.0,) * 6
        sides = [(y, z), (y, z), (x, z), (x, z), (x, y), (x, y)]
        faces = [paint.face(*side, d) for side, d in zip(sides, density, strict=True)]
        return Box(centre, [v / 2 for v in size], yaw, faces, inside)

    boxes = [box((0, 0, ROOM[2] / 2), ROOM, 0.0, True)]
    for i in range(10):
        angle = 2 * math.pi * (i + random.uniform(-0.2, 0.2)) / 10
        size = tuple(random.uniform((0.4, 0.4, 0.4), (0.9, 0.7, 1.6)))
        at = (0.44 * ROOM[0] * math.cos(angle), 0.43 * ROOM[1] * math.sin(angle), size[2] / 2)
        boxes.append(box(at, size, random.uniform(-0.6, 0.6), False))
    return boxes


def base_pose(time: float, radius: float, phase: float = 0.0, gaze: float = 0.0) -> Pose:
    """map_from_base on a smooth lap of 40 s; radius 1 is the middle of the free space."""
    angle = 2 * math.pi * time / 40.0 + phase
    x, y = 1.9 * radius * math.cos(angle), 1.3 * radius * math.sin(angle)
    heading = math.atan2(1.3 * math.cos(angle), -1.9 * math.sin(angle))
    yaw = heading + gaze + 0.25 * math.sin(3 * angle)
    return Pose.from_rotvec(
        torch.tensor([0.0, 0.0, yaw], dtype=torch.float64),
        torch.tensor([x, y, 0.0], dtype=torch.float64),
    )


def mount() -> Pose:
    """base_from_cam."""
    return Pose(
        torch.tensor(OPTICAL, dtype=torch.float64),
        torch.tensor([0.0, 0.0, CAMERA_HEIGHT], dtype=torch.float64),
    )


def photograph(
    scene: Scene,
    camera: Camera,
    cam_from_map: Pose,
    random: np.random.Generator,
    time: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """A frame (H, W, 3) with the faults of a camera, and its depth; `time` makes its exposure
    wander.
    """
    image, depth = scene.render(camera, cam_from_map)
    height, width = depth.shape
    gain = 1.0 if time is None else 1.0 + 0.35 * math.sin(0.9 * time)
    image = image * (gain * _vignette(height, width))
    image += 3.0 * random.standard_normal(image.shape, np.float32)
    return np.clip(image, 0, 255).astype(np.uint8), depth


@cache
def _vignette(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return (1 - 0.2 * (x * x + y * y))[..., None].astype(np.float32)


def _model(
    camera: Camera,
    names: list[str],
    poses: list[Pose],
    depths: list[np.ndarray],
    corners: list[np.ndarray],
) -> pycolmap.Reconstruction:
    """The COLMAP model that a perfect reconstruction of the references would give."""
    points = []
    for pose, depth, found in zip(poses, depths, corners, strict=True):
        rays, _ = camera.unproject(torch.from_numpy(found).double())
        z = torch.from_numpy(depth[found[:, 1].astype(int), found[:, 0].astype(int)]).double()
        points.append(pose.inverse().transform(rays * (z / rays[:, 2])[:, None]))
    cloud = torch.cat(points)
    # corners that several references found are one point
    _, first = np.unique((cloud / 0.03).round().numpy(), axis=0, return_index=True)
    cloud = cloud[np.sort(first)]

    seen = []
    for pose, depth in zip(poses, depths, strict=True):
        inside = pose.transform(cloud)
        pixels, valid = camera.project(inside)
        column, row = (pixels.floor().long().clamp(min=0)).unbind(-1)
        z = torch.from_numpy(depth)[
            row.clamp(max=depth.shape[0] - 1), column.clamp(max=depth.shape[1] - 1)
        ]
        seen.append((pixels, valid & ((inside[:, 2] - z).abs() < 0.02 + 0.01 * z)))

    model, width, height, params = INTRINSICS
    reconstruction = pycolmap.Reconstruction()
    reconstruction.add_camera_with_trivial_rig(
        pycolmap.Camera(model=model, width=width, height=height, params=list(params), camera_id=1)
    )
    tracks: dict[int, list[tuple[int, int]]] = {}
    for number, (name, pose, (pixels, valid)) in enumerate(
        zip(names, poses, seen, strict=True), 1
    ):
        index = torch.nonzero(valid).flatten().tolist()
        w, x, y, z = pose.quaternion().tolist()
        image = pycolmap.Image(
            name,
            pycolmap.Point2DList([pycolmap.Point2D(p) for p in pixels[index].numpy()]),
            camera_id=1,
            image_id=number,
        )
        reconstruction.add_image_with_trivial_frame(
            image,
            pycolmap.Rigid3d(
                pycolmap.Rotation3d(np.array([x, y, z, w])), pose.translation.numpy()
            ),
        )
        for position, point in enumerate(index):
            tracks.setdefault(point, []).append((number, position))
    for point, elements in sorted(tracks.items()):
        track = pycolmap.Track([pycolmap.TrackElement(*e) for e in elements])
        reconstruction.add_point3D(cloud[point].numpy(), track)
    return reconstruction


def _drifting_odometry(times: np.ndarray, random: np.random.Generator) -> list[Pose]:
    """odom_from_base: the true motion with 1.5 % too long steps, a turning bias and noise."""
    poses = [Pose.identity(dtype=torch.float64)]
    for before, now in itertools.pairwise(times):
        step = (base_pose(before, 1.0).inverse() @ base_pose(now, 1.0)).log()
        step[:3] *= 1.015
        step[5] += math.radians(0.25) * (now - before)
        step[:2] += torch.from_numpy(random.normal(0, 5e-4, 2))
        step[5] += random.normal(0, 3e-4)
        poses.append(poses[-1] @ Pose.exp(step))
    return poses


def render_room(
    root: Path,
    seconds: float = 15.0,
    references: int = 60,
    mapped: float = 40.0,
    seed: int = 7,
    progress: Progress | None = None,
) -> None:
    """Render the room into a folder in the layout of `datasets.sequence`.

    The model is made of `references` images from the first `mapped` seconds of two laps with
    other radii and gazes; the queries are the drive of `seconds` at 10 Hz, with odometry at
    50 Hz. A lap takes 40 s.
    """
    random = np.random.default_rng(seed)
    scene = make_room(seed)
    model, width, height, params = INTRINSICS
    camera = Camera.from_colmap(model, width, height, params)
    cam_from_base = mount().inverse()
    for folder in ("images/db", "images/query", "sparse"):
        (root / folder).mkdir(parents=True, exist_ok=True)

    names, poses, depths, corners = [], [], [], []
    for i in range(references):
        lap = i % 2
        time = mapped * i / references
        gaze = math.radians((25.0, -30.0)[lap])
        pose = cam_from_base @ base_pose(time, (1.25, 0.7)[lap], 0.07, gaze).inverse()
        image, depth = photograph(scene, camera, pose, random, None)
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        found = cv2.goodFeaturesToTrack(gray, 300, 0.01, 8)
        names.append(f"db/{i:04d}.jpg")
        poses.append(pose)
        depths.append(depth)
        corners.append(found.reshape(-1, 2).astype(np.float64) + 0.5)
        _save(root / "images" / names[-1], image)
        if progress is not None:
            progress("rendering the references", i + 1, references)
    _model(camera, names, poses, depths, corners).write(str(root / "sparse"))

    count = int(seconds * FRAME_RATE)
    queries, truth, stamps = [], {}, []
    for i in range(count):
        time = i / FRAME_RATE
        name = f"query/{i:04d}.jpg"
        truth[name] = cam_from_base @ base_pose(time, 1.0).inverse()
        image, _ = photograph(scene, camera, truth[name], random, time)
        _save(root / "images" / name, image)
        queries.append(f"{name} {model} {width} {height} {' '.join(map(str, params))}\n")
        stamps.append(f"{name} {time + 100.0:.6f}\n")
        if progress is not None:
            progress("rendering the drive", i + 1, count)
    write_text(root / "queries_with_intrinsics.txt", "".join(queries))
    write_text(root / "timestamps.txt", "".join(stamps))
    write_poses(root / "gt_poses.txt", truth)
    _save_odometry(root, np.arange(0, seconds, 1 / ODOMETRY_RATE), random)


def _save(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92]):
        raise InputError(f"{path}: cannot be written")


def _save_odometry(root: Path, times: np.ndarray, random: np.random.Generator) -> None:
    lines = ["# seconds tx ty tz qx qy qz qw of odom_from_cam\n"]
    base_from_cam = mount()
    for time, odom_from_base in zip(times, _drifting_odometry(times, random), strict=True):
        # the trajectory of the camera, in a frame with the camera's axes
        pose = base_from_cam.inverse() @ odom_from_base @ base_from_cam
        w, x, y, z = pose.quaternion().tolist()
        numbers = [*pose.translation.tolist(), x, y, z, w]
        lines.append(f"{time + 100.0:.6f} " + " ".join(f"{v:.9g}" for v in numbers) + "\n")
    write_text(root / "odometry_sim.txt", "".join(lines))
