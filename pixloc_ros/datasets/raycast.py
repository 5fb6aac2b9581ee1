"""A ray-caster for textured boxes, batched over scenes and views: exact depth, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from pixloc_ros.geometry import Camera, Lens, Pose

NEAREST = 1e-4
"""Surfaces nearer to a camera than this are behind it."""


class Textures:
    """Images of any size with their halvings, in one buffer that a gather can sample.

    images: RGB uint8. Outside [0, 1] a texture repeats, mirrored, so that it has no seams.
    """

    LEVELS = 6

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        rows, layout = [], []
        offset = 0
        for image in images:
            shapes = []
            for _ in range(self.LEVELS):
                shapes.append((offset, image.shape[0], image.shape[1]))
                rows.append(image.reshape(-1, 3))
                offset += len(rows[-1])
                half = (max(image.shape[1] // 2, 1), max(image.shape[0] // 2, 1))
                image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
            layout.append(shapes)
        self._rows = torch.from_numpy(np.concatenate(rows))
        self._layout = torch.tensor(layout)  # (images, LEVELS, 3)

    def __len__(self) -> int:
        return len(self._layout)

    def to(self, device: torch.device) -> Textures:
        """Move the buffer to another device, and return self."""
        self._rows, self._layout = self._rows.to(device), self._layout.to(device)
        return self

    def widths(self, image: Tensor) -> Tensor:
        """Texels across the images (...)."""
        return self._layout[image, 0, 2]

    def sample(self, image: Tensor, uv: Tensor, level: Tensor) -> Tensor:
        """Colours (N, 3) in [0, 255]: image index (N,), uv (N, 2), level (N,) of detail."""
        uv = 1 - (uv.remainder(2) - 1).abs()
        level = level.clamp(0, self.LEVELS - 1)
        low = level.floor().long()
        high = (low + 1).clamp(max=self.LEVELS - 1)
        return torch.lerp(
            self._bilinear(image, uv, low),
            self._bilinear(image, uv, high),
            (level - low)[:, None],
        )

    def _bilinear(self, image: Tensor, uv: Tensor, level: Tensor) -> Tensor:
        offset, height, width = self._layout[image, level].unbind(-1)
        x = (uv[:, 0] * width - 0.5).clamp(min=0)
        y = (uv[:, 1] * height - 0.5).clamp(min=0)
        x0, y0 = torch.minimum(x.long(), width - 1), torch.minimum(y.long(), height - 1)
        x1, y1 = torch.minimum(x0 + 1, width - 1), torch.minimum(y0 + 1, height - 1)
        fx, fy = (x - x0)[:, None], (y - y0)[:, None]

        def at(row: Tensor, column: Tensor) -> Tensor:
            return self._rows[offset + row * width + column].float()

        top = torch.lerp(at(y0, x0), at(y0, x1), fx)
        bottom = torch.lerp(at(y1, x0), at(y1, x1), fx)
        return torch.lerp(top, bottom, fy)


@dataclass(frozen=True)
class Boxes:
    """K boxes in each of S scenes. Faces are ordered -x, +x, -y, +y, -z, +z.

    centre, half: (S, K, 3) metres. rotation: (S, K, 3, 3) scene from box.
    inside: (S, K) bool, seen from within, as a room is.
    texture: (S, K, 6) index. window: (S, K, 6, 4) u, v of the face's corner and its extent in
    texture widths. gain, bias: (S, K, 6, 3), colour = gain * texture + bias.
    """

    centre: Tensor
    half: Tensor
    rotation: Tensor
    inside: Tensor
    texture: Tensor
    window: Tensor
    gain: Tensor
    bias: Tensor

    def to(self, device: torch.device) -> Boxes:
        return Boxes(**{k: v.to(device) for k, v in vars(self).items()})


@dataclass(frozen=True)
class Hits:
    """What N rays of V views in S scenes meet first: all (S, V, N, ...).

    distance: in lengths of the ray's direction, infinite where nothing is met. box, face:
    indices. point, normal: (..., 3) in the scene. uv: (..., 2) in [0, 1] over the face.
    """

    distance: Tensor
    box: Tensor
    face: Tensor
    point: Tensor
    normal: Tensor
    uv: Tensor


def pixel_rays(camera: Camera, cam_from_scene: Pose) -> tuple[Tensor, Tensor]:
    """Origins (S, V, 3) and directions (S, V, H * W, 3) through all pixels of cameras (S, V).

    Directions have length 1 along the optical axis, so that a hit's distance is its depth.
    All cameras have the same image size.
    """
    width, height = (int(v) for v in camera.size.reshape(-1, 2)[0].tolist())
    v, u = torch.meshgrid(
        torch.arange(height, device=camera.device),
        torch.arange(width, device=camera.device),
        indexing="ij",
    )
    pixels = (torch.stack([u, v], -1).reshape(-1, 2) + 0.5).to(camera.dtype)
    rays, _ = camera.unproject(pixels.expand(*camera.shape, -1, 2))
    scene_from_cam = cam_from_scene.inverse()
    directions = (rays / rays[..., 2:]) @ scene_from_cam.rotation.transpose(-1, -2)
    return scene_from_cam.translation.float(), directions.float()


def _slabs(boxes: Boxes, k: int, origin: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave box k of each scene: (S, V, N) each."""
    rotation = boxes.rotation[:, None, k]
    start = (origin - boxes.centre[:, None, None, k]) @ rotation
    ray = directions @ rotation
    inverse = 1 / torch.where(ray.abs() < 1e-9, torch.full_like(ray, 1e-9), ray)
    half = boxes.half[:, None, None, k]
    a, b = (-half - start) * inverse, (half - start) * inverse
    return torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)


def cast(boxes: Boxes, origin: Tensor, directions: Tensor, visible: Tensor | None = None) -> Hits:
    """The nearest surface along each ray, by the slab method of Kay and Kajiya (1986).

    origin: (S, V, 3); directions: (S, V, N, 3). visible: (S, V, K) bool, False for boxes that
    a view does not see.
    """
    shape = directions.shape[:-1]
    nearest = torch.full(shape, torch.inf, device=directions.device)
    box = torch.zeros(shape, dtype=torch.long, device=directions.device)
    for k in range(boxes.centre.shape[1]):
        near, far = _slabs(boxes, k, origin[:, :, None], directions)
        hit = torch.where(boxes.inside[:, None, None, k], far, near)
        closer = (far > near) & (hit > NEAREST) & (hit < nearest)
        if visible is not None:
            closer = closer & visible[:, :, None, k]
        nearest = torch.where(closer, hit, nearest)
        box = torch.where(closer, k, box)
    return _hits(boxes, origin, directions, nearest, box)


def _hits(boxes: Boxes, origin: Tensor, directions: Tensor, nearest: Tensor, box: Tensor) -> Hits:
    """What rays meet at a distance (S, V, N) on a box (S, V, N)."""
    shape = nearest.shape
    scene = torch.arange(len(box), device=box.device)[:, None, None]
    point = origin[:, :, None] + directions * torch.where(nearest.isinf(), 0.0, nearest)[..., None]
    rotation = boxes.rotation[scene, box]
    local = ((point - boxes.centre[scene, box])[..., None, :] @ rotation).squeeze(-2)
    local = local / boxes.half[scene, box]
    axis = local.abs().argmax(-1)
    outward = local.gather(-1, axis[..., None])[..., 0] > 0
    normal = rotation.gather(-1, axis[..., None, None].expand(*shape, 3, 1)).squeeze(-1)
    normal = torch.where((outward ^ boxes.inside[scene, box])[..., None], normal, -normal)
    u = torch.where(axis == 0, local[..., 1], local[..., 0])
    v = torch.where(axis == 2, local[..., 1], -local[..., 2])
    uv = ((torch.stack([u, v], -1) + 1) / 2).clamp(0, 1)
    return Hits(nearest, box, axis * 2 + outward.long(), point, normal, uv)


def in_shadow(boxes: Boxes, points: Tensor, lamp: Tensor) -> Tensor:
    """Whether a box stands between points (S, V, N, 3) and lamps (S, V, 3): (S, V, N)."""
    towards = lamp[:, :, None] - points
    shadow = torch.zeros(points.shape[:-1], dtype=torch.bool, device=points.device)
    for k in range(boxes.centre.shape[1]):
        near, far = _slabs(boxes, k, points, towards)
        blocks = (far > near) & (near > 1e-3) & (near < 1 - 1e-3)
        shadow = shadow | (blocks & ~boxes.inside[:, None, None, k])
    return shadow


def paint(
    boxes: Boxes, textures: Textures, hits: Hits, directions: Tensor, focal: Tensor
) -> Tensor:
    """Unlit colours (S, V, N, 3) of hits; textures are blurred to the size of a pixel.

    focal: (S, V) pixels.
    """
    scene = torch.arange(len(hits.box), device=hits.box.device)[:, None, None]
    texture = boxes.texture[scene, hits.box, hits.face]
    window = boxes.window[scene, hits.box, hits.face]
    size = 2 * boxes.half[scene, hits.box]
    across = torch.where(hits.face < 2, size[..., 1], size[..., 0])
    texel = across / (textures.widths(texture) * window[..., 2].abs().clamp(min=1e-3))
    # how many texels one pixel covers, slanted surfaces included
    slant = (hits.normal * directions).sum(-1).abs() / directions.norm(dim=-1)
    footprint = hits.distance / focal[..., None] / texel / slant.clamp(min=0.1).sqrt()
    level = footprint.clamp(1, 1e3).log2()
    uv = window[..., :2] + hits.uv * window[..., 2:]
    colour = textures.sample(texture.flatten(), uv.flatten(0, -2), level.flatten())
    colour = colour.reshape(*texture.shape, 3)
    gain, bias = (t[scene, hits.box, hits.face] for t in (boxes.gain, boxes.bias))
    return colour * gain + bias


@dataclass(frozen=True)
class Box:
    """One box of a `Scene`, with an image spread over each whole face.

    centre, half: (3,) metres. yaw: radians about z. faces: six RGB uint8 images.
    """

    centre: Sequence[float]
    half: Sequence[float]
    yaw: float
    faces: Sequence[np.ndarray]
    inside: bool = False


class Scene:
    """Boxes to look at, one view at a time."""

    # a lamp at the ceiling's middle: walls, floor and ceiling differ in brightness
    SHADE = (0.85, 0.95, 0.8, 0.9, 0.7, 1.0)

    def __init__(self, boxes: Sequence[Box]) -> None:
        count = len(boxes)
        yaw = torch.tensor([b.yaw for b in boxes], dtype=torch.float32)
        turn = torch.stack([torch.zeros(count), torch.zeros(count), yaw], -1)
        shade = torch.tensor(self.SHADE)[:, None].expand(1, count, 6, 3)
        self._boxes = Boxes(
            centre=torch.tensor([[list(b.centre) for b in boxes]], dtype=torch.float32),
            half=torch.tensor([[list(b.half) for b in boxes]], dtype=torch.float32),
            rotation=Pose.from_rotvec(turn, torch.zeros(count, 3)).rotation[None],
            inside=torch.tensor([[b.inside for b in boxes]]),
            texture=torch.arange(6 * count).reshape(1, count, 6),
            window=torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, count, 6, 4),
            gain=shade,
            bias=torch.zeros_like(shade),
        )
        self._textures = Textures([face for b in boxes for face in b.faces])
        self._rays: tuple[Camera, Tensor] | None = None

    def render(self, camera: Camera, cam_from_map: Pose) -> tuple[np.ndarray, np.ndarray]:
        """RGB float32 (H, W, 3) in [0, 255] and depth float32 (H, W) along the optical axis."""
        width, height = (int(v) for v in camera.size.tolist())
        if self._rays is None or self._rays[0] is not camera:
            # what the next image of this camera needs again
            still = Pose.identity(dtype=torch.float64)
            self._rays = camera, pixel_rays(camera[None, None], still[None, None])[1]
        map_from_cam = cam_from_map.inverse()
        origin = map_from_cam.translation.float()[None, None]
        directions = self._rays[1] @ map_from_cam.rotation.float().T
        hits = self._cast(camera, cam_from_map, origin, directions)
        focal = camera.focal.mean(-1).float()[None, None]
        colour = paint(self._boxes, self._textures, hits, directions, focal)
        return (
            colour.reshape(height, width, 3).numpy(),
            hits.distance.reshape(height, width).numpy(),
        )

    def _cast(
        self, camera: Camera, cam_from_map: Pose, origin: Tensor, directions: Tensor
    ) -> Hits:
        """As `cast`, where each box is looked for in the part of the image that it can cover."""
        width, height = (int(v) for v in camera.size.tolist())
        boxes, grid = self._boxes, directions.view(1, 1, height, width, 3)
        nearest = torch.full((height, width), torch.inf)
        box = torch.zeros(height, width, dtype=torch.long)
        for k in range(boxes.centre.shape[1]):
            rows, columns = self._window(k, camera, cam_from_map)
            part = grid[:, :, rows, columns]
            if part.numel() == 0:
                continue
            near, far = _slabs(boxes, k, origin[:, :, None], part.flatten(2, 3))
            near, far = (v.view(part.shape[2:4]) for v in (near, far))
            hit = far if bool(boxes.inside[0, k]) else near
            closer = (far > near) & (hit > NEAREST) & (hit < nearest[rows, columns])
            nearest[rows, columns] = torch.where(closer, hit, nearest[rows, columns])
            box[rows, columns] = torch.where(closer, k, box[rows, columns])
        return _hits(boxes, origin, directions, nearest.view(1, 1, -1), box.view(1, 1, -1))

    def _window(self, k: int, camera: Camera, cam_from_map: Pose) -> tuple[slice, slice]:
        """Rows and columns between which box k is seen: where its corners are, or everywhere."""
        width, height = (int(v) for v in camera.size.tolist())
        boxes = self._boxes
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
        corners = (signs * boxes.half[0, k]) @ boxes.rotation[0, k].T + boxes.centre[0, k]
        seen = cam_from_map.transform(corners.double())
        bent = camera.lens != Lens.PERSPECTIVE or bool(camera.distortion.any())
        # boxes around the camera, and what is not straight in the image, are looked for everywhere
        if bool(boxes.inside[0, k]) or bent:
            return slice(0, height), slice(0, width)
        if bool((seen[:, 2] < 0).all()):
            return slice(0, 0), slice(0, 0)
        if bool((seen[:, 2] < 0.1).any()):
            return slice(0, height), slice(0, width)
        pixels = seen[:, :2] / seen[:, 2:] * camera.focal + camera.centre
        left, top = (int(v) for v in pixels.amin(0).floor())
        right, bottom = (int(v) + 1 for v in pixels.amax(0).ceil())
        return (
            slice(min(max(top, 0), height), min(max(bottom, 0), height)),
            slice(min(max(left, 0), width), min(max(right, 0), width)),
        )
