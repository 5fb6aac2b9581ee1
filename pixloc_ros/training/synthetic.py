"""Training batches of synthetic places, made anew for every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.datasets.disturbances import disturb
from pixloc_ros.datasets.photometry import photograph
from pixloc_ros.datasets.raycast import Hits, Textures, cast, in_shadow, paint, pixel_rays
from pixloc_ros.datasets.scene_kinds import KINDS
from pixloc_ros.datasets.synthetic_scenes import (
    SceneBatch,
    check_kinds,
    make_scene,
    stack_scenes,
)
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.training.batch import PairBatch, StartOptions, draw_start, random_pixels

FARTHEST = 120.0
"""Depth, metres, beyond which a pixel is sky."""
GRID = 20
"""Overlap is measured on every GRID-th pixel either way."""


@dataclass
class SyntheticOptions:
    """Synthetic scenes of one step.

    photographs: folder of textures; empty takes the few of scikit-image. scenes: a step, over
    all processes; views, pairs: of each scene. sizes: image width and height, one drawn for
    each step, multiples of 16. kinds: of scenes. overlap: least and most share of the reference
    that the query sees. points: of each pair; gradient_share of them drawn where the image has
    detail.
    """

    photographs: str = ""
    scenes: int = 8
    views: int = 4
    pairs: int = 2
    sizes: list[list[int]] = field(default_factory=lambda: [[384, 288]])
    kinds: list[str] = field(default_factory=lambda: list(KINDS))
    overlap: list[float] = field(default_factory=lambda: [0.15, 1.0])
    points: int = 512
    gradient_share: float = 0.7

    def __post_init__(self) -> None:
        check_kinds(self.kinds)
        for size in self.sizes:
            if len(size) != 2 or any(v < 64 or v % 16 for v in size):
                raise InputError(f"sizes: {size}: width and height, multiples of 16 from 64")
        if not self.sizes or len(self.overlap) != 2:
            raise InputError("sizes needs an entry, overlap a least and a most share")
        if min(self.scenes, self.pairs) < 1 or self.views < 2 or self.points < 16:
            raise InputError(
                "scenes and pairs: at least 1; views: at least 2; points: at least 16"
            )


def render(places: SceneBatch, textures: Textures, cameras: Camera) -> tuple[Tensor, Tensor, Hits]:
    """Lit images (S, V, 3, H, W) in [0, 1], depth (S, V, H, W) and hits of all views."""
    width, height = (int(v) for v in cameras.size[0, 0].tolist())
    origin, directions = pixel_rays(cameras, places.cam_from_scene)
    hits = cast(places.boxes, origin, directions, places.visible)
    colour = paint(places.boxes, textures, hits, directions, cameras.focal.mean(-1))
    towards = places.lamp[:, :, None] - hits.point
    towards = towards / towards.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    lit = (hits.normal * towards).sum(-1).clamp(min=0)
    shadow = in_shadow(places.boxes, hits.point, places.lamp)
    lit = lit * (1 - places.shadows[..., None] * shadow)
    view = -directions / directions.norm(dim=-1, keepdim=True)
    half = view + towards
    half = half / half.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    scene = torch.arange(len(hits.box), device=hits.box.device)[:, None, None]
    mirrored = (hits.normal * half).sum(-1).clamp(min=0) ** 40
    mirrored = mirrored * lit * places.gloss[scene, hits.box]
    light = places.ambient[:, :, None] + places.diffuse[:, :, None] * lit[..., None]
    colour = colour / 255 * light + mirrored[..., None] * places.diffuse[:, :, None]
    shape = (*colour.shape[:2], height, width)
    images = colour.clamp(0, 1).reshape(*shape, 3).permute(0, 1, 4, 2, 3).contiguous()
    return images, hits.distance.reshape(shape), hits


def seen_by(
    points: Tensor, poses: Pose, cameras: Camera, depth: Tensor, tolerance: float = 0.03
) -> Tensor:
    """Whether views see points that others found: (B, n) for points (B, n, 3) in the scene.

    poses, cameras: (B,); depth: (B, H, W). A point hidden behind something nearer is not seen.
    """
    inside = poses.transform(points)
    pixels, valid = cameras.project(inside)
    height, width = depth.shape[-2:]
    # far and non-finite projections are not valid: any cell does for them
    pixels = torch.nan_to_num(pixels).clamp(-1e6, 1e6)
    x = pixels[..., 0].floor().long().clamp(0, width - 1)
    y = pixels[..., 1].floor().long().clamp(0, height - 1)
    there = depth.flatten(1).gather(1, y * width + x)
    z = inside[..., 2]
    return valid & ((z - there).abs() < tolerance * z.abs() + 0.005)


@dataclass(frozen=True)
class SceneLayouts:
    """The places of a step, on the CPU: what a worker process prepares ahead."""

    options: SyntheticOptions
    seed: int
    textures: int

    def __call__(self, step: int, scenes: Sequence[int]) -> SceneBatch:
        views, kinds = self.options.views, self.options.kinds
        return stack_scenes(
            [make_scene((self.seed, step, n), views, self.textures, kinds) for n in scenes]
        )


class SyntheticPairs:
    """Batches for a step, each scene from its own seed: the same on any number of processes."""

    def __init__(
        self,
        options: SyntheticOptions,
        starts: StartOptions,
        textures: Textures,
        seed: int,
        device: torch.device,
    ) -> None:
        self.options, self.starts, self.textures = options, starts, textures
        self.seed, self.device = seed, device
        self.prepare = SceneLayouts(options, seed, len(textures))
        self.samples = options.scenes

    @torch.no_grad()
    def finish(self, step: int, scenes: Sequence[int], places: SceneBatch) -> PairBatch:
        """The batch of the given scenes (numbers within the step) from what was prepared."""
        options = self.options
        size_random = np.random.default_rng([self.seed, step, 2**31])
        width, height = options.sizes[size_random.integers(len(options.sizes))]
        places = _to(places, self.device)
        cameras = _cameras(places.focal, width, height)
        images, depth, _ = render(places, self.textures, cameras)
        randoms = [np.random.default_rng([self.seed, step, scene, 1]) for scene in scenes]
        taken, hidden = [], []
        for views, random in zip(images, randoms, strict=True):
            disturbed, covered = disturb(views, random)
            taken.append(photograph(disturbed, random))
            hidden.append(covered)
        images, covered = torch.stack(taken), torch.stack(hidden)
        overlap = self._overlap(places.cam_from_scene, cameras, depth)
        first, second, valid = self._pairs(overlap.cpu().numpy(), randoms)
        return self._assemble(
            images,
            depth,
            covered,
            cameras,
            places.cam_from_scene,
            overlap,
            first,
            second,
            valid,
            randoms,
        )

    def _overlap(self, poses: Pose, cameras: Camera, depth: Tensor) -> Tensor:
        """(S, V, V): share of view i that view j sees."""
        s, v = poses.shape
        sparse = depth[..., GRID // 2 :: GRID, GRID // 2 :: GRID]
        rows, columns = sparse.shape[-2:]
        y, x = torch.meshgrid(
            torch.arange(rows, device=self.device),
            torch.arange(columns, device=self.device),
            indexing="ij",
        )
        pixels = (torch.stack([x, y], -1).reshape(-1, 2) * GRID + GRID // 2 + 0.5).float()
        rays, _ = cameras.unproject(pixels.expand(s, v, -1, 2))
        z = sparse.flatten(2)
        real = z < FARTHEST
        local = rays / rays[..., 2:] * torch.where(real, z, 1.0)[..., None]
        points = poses.inverse().transform(local)
        every = points[:, :, None].expand(s, v, v, -1, 3).reshape(s * v * v, -1, 3)
        # index (s, i, j): points of view i into view j
        into = poses[:, None].expand(s, v, v).reshape(-1)
        by = cameras[:, None].expand(s, v, v).reshape(-1)
        depths = depth[:, None].expand(s, v, v, *depth.shape[2:]).reshape(-1, *depth.shape[2:])
        seen = seen_by(every, into, by, depths).reshape(s, v, v, -1) & real[:, :, None]
        return seen.float().sum(-1) / z.shape[-1]

    def _pairs(
        self, overlap: np.ndarray, randoms: Sequence[np.random.Generator]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reference and query view of the pairs (S, Q) and whether the pair is a real one."""
        least, most = self.options.overlap
        views = overlap.shape[1]
        i, j = (v.ravel() for v in np.nonzero(~np.eye(views, dtype=bool)))
        chosen, valid = [], []
        for share, random in zip(overlap, randoms, strict=True):
            both = np.minimum(share[i, j], share[j, i])
            good = (both >= least) & (both <= most)
            order = np.lexsort((random.random(len(i)), ~good))[: self.options.pairs]
            order = np.resize(order, self.options.pairs)
            chosen.append(order)
            valid.append(good[order])
        order = np.stack(chosen)
        return i[order], j[order], np.stack(valid)

    def _assemble(
        self,
        images: Tensor,
        depth: Tensor,
        covered: Tensor,
        cameras: Camera,
        poses: Pose,
        overlap: Tensor,
        first: np.ndarray,
        second: np.ndarray,
        valid: np.ndarray,
        randoms: Sequence[np.random.Generator],
    ) -> PairBatch:
        s, v = images.shape[:2]
        height, width = images.shape[-2:]
        offset = np.arange(s)[:, None] * v
        reference, query = (
            torch.from_numpy((a + offset).ravel()).to(self.device) for a in (first, second)
        )
        images, depth = images.flatten(0, 1), depth.flatten(0, 1)
        covered = covered.flatten(0, 1)
        cameras, poses = cameras.reshape(-1), poses.reshape(-1)
        pairs = self.options.pairs
        noise = torch.cat([self._noise(random, pairs, height * width) for random in randoms])
        border = torch.zeros(height, width, dtype=torch.bool, device=self.device)
        border[4:-4, 4:-4] = True
        near = depth[reference]
        picked = random_pixels(
            images[reference],
            (near < FARTHEST) & border & ~covered[reference],
            self.options.points,
            self.options.gradient_share,
            noise,
        )
        z = near.flatten(1).gather(1, picked)
        pixels = torch.stack([picked % width, picked // width], -1).float() + 0.5
        rays, _ = cameras[reference].unproject(pixels)
        points = rays / rays[..., 2:] * torch.where(z < FARTHEST, z, 1.0)[..., None]
        truth = poses[query] @ poses[reference].inverse()
        in_scene = poses[reference].inverse().transform(points)
        # what is covered in the query has no depth there that a point could have
        uncovered = torch.where(covered[query], -1.0, depth[query])
        visible = seen_by(in_scene, poses[query], cameras[query], uncovered)
        median = z.clamp(max=FARTHEST).median(-1).values
        starts = [
            draw_start(
                truth[k * pairs : (k + 1) * pairs],
                median[k * pairs : (k + 1) * pairs],
                self.starts,
                random,
            )
            for k, random in enumerate(randoms)
        ]
        return PairBatch(
            images=images,
            cameras=cameras,
            reference=reference,
            query=query,
            points=points,
            mask=(z < FARTHEST) & ~covered[reference].flatten(1).gather(1, picked),
            visible=visible,
            truth=truth,
            start=Pose.cat(starts),
            valid=torch.from_numpy(valid.ravel()).to(self.device),
            overlap=overlap,
        )

    def _noise(self, random: np.random.Generator, rows: int, columns: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(int(random.integers(2**62)))
        return torch.rand(rows, columns, device=self.device, generator=generator)


def _cameras(focal: Tensor, width: int, height: int) -> Camera:
    """Pinhole cameras (S, V) of one image size; focal: in image widths."""
    model = Camera.from_colmap("SIMPLE_PINHOLE", width, height, [1.0, width / 2, height / 2])
    camera = model.to(focal).expand(*focal.shape)
    pixels = (focal * width)[..., None].expand(*focal.shape, 2)
    return replace(camera, focal=pixels)


def _to(places: SceneBatch, device: torch.device) -> SceneBatch:
    return SceneBatch(**{k: v.to(device) for k, v in vars(places).items()})
