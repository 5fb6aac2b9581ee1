"""Training batches of real images: pairs that overlap, with 3D points from a sparse model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from pixloc_ros.datasets.pair_files import SceneFile, read_scene
from pixloc_ros.errors import InputError
from pixloc_ros.features import read_image
from pixloc_ros.features.image import resized_shape
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.training.batch import PairBatch, StartOptions, draw_start

log = logging.getLogger(__name__)


@dataclass
class ImagePairOptions:
    """Pairs of real images of one step.

    scenes: scene files that `preprocess` wrote; validation: those held out. images: folder
    that their image names start from. samples: pairs a step, over all processes. size: longest
    side in pixels. overlap: least and most share of the reference's points that the query
    sees. points: of each pair.
    """

    scenes: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    images: str = ""
    samples: int = 4
    size: int = 512
    overlap: list[float] = field(default_factory=lambda: [0.3, 1.0])
    points: int = 512

    def __post_init__(self) -> None:
        if self.samples < 1 or self.points < 16 or self.size < 64 or len(self.overlap) != 2:
            raise InputError(
                "pairs: samples is at least 1, points 16, size 64, and overlap has two shares"
            )


@dataclass(frozen=True)
class _Scenes:
    """Reads pairs of images, in a worker process or in this one."""

    files: tuple[SceneFile, ...]
    candidates: tuple[np.ndarray, ...]
    options: ImagePairOptions
    starts: StartOptions
    seed: int

    def __call__(self, step: int, samples: Sequence[int]) -> PairBatch:
        pairs = [self._pair(np.random.default_rng([self.seed, step, n])) for n in samples]
        height = max(p.images.shape[-2] for p in pairs)
        width = max(p.images.shape[-1] for p in pairs)
        height, width = -(-height // 16) * 16, -(-width // 16) * 16
        images = torch.zeros(2 * len(pairs), 3, height, width)
        for k, pair in enumerate(pairs):
            h, w = pair.images.shape[-2:]
            images[2 * k : 2 * k + 2, :, :h, :w] = pair.images
        even = torch.arange(0, 2 * len(pairs), 2)
        return PairBatch(
            images=images,
            cameras=Camera.cat([p.cameras for p in pairs]),
            reference=even,
            query=even + 1,
            points=torch.cat([p.points for p in pairs]),
            mask=torch.cat([p.mask for p in pairs]),
            visible=torch.cat([p.visible for p in pairs]),
            truth=Pose.cat([p.truth for p in pairs]),
            start=Pose.cat([p.start for p in pairs]),
            valid=torch.ones(len(pairs), dtype=torch.bool),
        )

    def _pair(self, random: np.random.Generator) -> PairBatch:
        number = int(random.integers(len(self.files)))
        scene, candidates = self.files[number], self.candidates[number]
        i, j = (int(v) for v in candidates[random.integers(len(candidates))])
        loaded = [self._image(scene, n) for n in (i, j)]
        height = max(image.shape[0] for image, _ in loaded)
        width = max(image.shape[1] for image, _ in loaded)
        images = torch.zeros(2, 3, height, width)
        for k, (image, _) in enumerate(loaded):
            images[k, :, : image.shape[0], : image.shape[1]] = (
                torch.from_numpy(image).permute(2, 0, 1).float() / 255
            )
        poses = Pose.from_quaternion(scene.quaternion[[i, j]], scene.translation[[i, j]])
        truth = poses[1:] @ poses[:1].inverse()
        seen, other = scene.observed[i], set(scene.observed[j].tolist())
        if len(seen) > self.options.points:
            seen = random.choice(seen, self.options.points, replace=False)
        filled = torch.zeros(1, self.options.points, 3, dtype=torch.float64)
        filled[0, : len(seen)] = poses[0].transform(torch.from_numpy(scene.points[seen]))
        filled[0, len(seen) :, 2] = -1.0  # behind the camera
        mask = torch.arange(self.options.points)[None] < len(seen)
        visible = torch.zeros_like(mask)
        visible[0, : len(seen)] = torch.tensor([int(p) in other for p in seen])
        depth = filled[:, : len(seen), 2].median(-1).values
        start = draw_start(truth, depth, self.starts, random)
        return PairBatch(
            images=images,
            cameras=Camera.stack([camera for _, camera in loaded]).to(torch.float32),
            reference=torch.tensor([0]),
            query=torch.tensor([1]),
            points=filled.float(),
            mask=mask,
            visible=visible,
            truth=truth.to(torch.float32),
            start=start.to(torch.float32),
            valid=torch.tensor([True]),
        )

    def _image(self, scene: SceneFile, number: int) -> tuple[np.ndarray, Camera]:
        path = Path(self.options.images) / scene.names[number]
        image = read_image(path)
        camera = scene.cameras[scene.camera_index[number]].camera()
        if (image.shape[1], image.shape[0]) != tuple(camera.size.int().tolist()):
            wanted = "x".join(f"{v:g}" for v in camera.size.tolist())
            raise InputError(
                f"{path}: {image.shape[1]}x{image.shape[0]} pixels, its camera has {wanted}"
            )
        width, height = resized_shape(image.shape[1], image.shape[0], self.options.size)
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return resized, camera.resize(width, height)


class ImagePairs:
    """Batches of real pairs: the same for a seed and step on any number of processes.

    Raises InputError when a scene file is damaged or no pair has the wanted overlap.
    """

    def __init__(
        self,
        options: ImagePairOptions,
        files: Sequence[str],
        starts: StartOptions,
        seed: int,
        device: torch.device,
    ) -> None:
        if not files:
            raise InputError("pairs.scenes and pairs.validation: a scene file each is needed")
        self.device, self.samples = device, options.samples
        kept, candidates = [], []
        for file in files:
            scene = read_scene(file)
            least, most = options.overlap
            found = np.argwhere((scene.overlap >= least) & (scene.overlap <= most))
            found = found[found[:, 0] != found[:, 1]]
            if len(found):
                kept.append(scene)
                candidates.append(found)
            else:
                log.warning("%s: no pair with an overlap of %g to %g, left out", file, least, most)
        if not kept:
            raise InputError(
                f"no scene has a pair with an overlap of {options.overlap[0]:g} to "
                f"{options.overlap[1]:g}"
            )
        self.prepare = _Scenes(tuple(kept), tuple(candidates), options, starts, seed)

    def finish(self, step: int, samples: Sequence[int], prepared: PairBatch) -> PairBatch:
        return prepared.to(self.device)
