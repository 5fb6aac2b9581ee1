"""A small ray-caster for textured boxes: exact depth and poses, in torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from pixloc_ros.geometry import Camera, Pose


@dataclass(frozen=True)
class Box:
    """A box that rays see from outside, or with `inside` from within (a room).

    centre, half: (3,) metres. yaw: radians about z. faces: RGB uint8 images for
    -x, +x, -y, +y, -z, +z, spread over the whole face.
    """

    centre: Sequence[float]
    half: Sequence[float]
    yaw: float
    faces: Sequence[np.ndarray]
    inside: bool = False


class _Textures:
    """Images of any size with their halvings, in one buffer that a gather can sample."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        rows, layout = [], []
        offset = 0
        for image in images:
            level: np.ndarray = image.astype(np.float32)
            shapes = []
            for _ in range(_Textures.LEVELS):
                shapes.append((offset, level.shape[0], level.shape[1]))
                rows.append(level.reshape(-1, 3))
                offset += rows[-1].shape[0]
                half = (max(level.shape[1] // 2, 1), max(level.shape[0] // 2, 1))
                level = cv2.resize(level, half, interpolation=cv2.INTER_AREA)
            layout.append(shapes)
        self._rows = torch.from_numpy(np.concatenate(rows))
        self._layout = torch.tensor(layout)  # (images, LEVELS, 3)

    LEVELS = 6

    def widths(self, image: Tensor) -> Tensor:
        return self._layout[image, 0, 2]

    def sample(self, image: Tensor, uv: Tensor, level: Tensor) -> Tensor:
        """Colours (N, 3): image index (N,), uv (N, 2) in [0, 1], level (N,) of detail."""
        level = level.clamp(0, self.LEVELS - 1)
        low = level.floor().long()
        high = (low + 1).clamp(max=self.LEVELS - 1)
        blend = (level - low)[:, None]
        return (
            self._bilinear(image, uv, low) * (1 - blend) + self._bilinear(image, uv, high) * blend
        )

    def _bilinear(self, image: Tensor, uv: Tensor, level: Tensor) -> Tensor:
        offset, height, width = self._layout[image, level].unbind(-1)
        x = (uv[:, 0] * width - 0.5).clamp(min=0)
        y = (uv[:, 1] * height - 0.5).clamp(min=0)
        x0, y0 = x.long(), y.long()
        x0, y0 = torch.minimum(x0, width - 1), torch.minimum(y0, height - 1)
        x1, y1 = torch.minimum(x0 + 1, width - 1), torch.minimum(y0 + 1, height - 1)
        fx, fy = (x - x0)[:, None], (y - y0)[:, None]

        def at(row: Tensor, column: Tensor) -> Tensor:
            return self._rows[offset + row * width + column]

        top = at(y0, x0) * (1 - fx) + at(y0, x1) * fx
        bottom = at(y1, x0) * (1 - fx) + at(y1, x1) * fx
        return top * (1 - fy) + bottom * fy


class Scene:
    """Boxes to look at."""

    def __init__(self, boxes: Sequence[Box]) -> None:
        self._centre = torch.tensor([list(b.centre) for b in boxes], dtype=torch.float32)
        self._half = torch.tensor([list(b.half) for b in boxes], dtype=torch.float32)
        yaw = torch.tensor([b.yaw for b in boxes], dtype=torch.float32)
        zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
        rows = [yaw.cos(), -yaw.sin(), zero, yaw.sin(), yaw.cos(), zero, zero, zero, one]
        self._rotation = torch.stack(rows, -1).reshape(-1, 3, 3)
        self._inside = torch.tensor([b.inside for b in boxes])
        self._camera: Camera | None = None
        self._textures = _Textures([face for b in boxes for face in b.faces])

    def render(self, camera: Camera, cam_from_map: Pose) -> tuple[np.ndarray, np.ndarray]:
        """RGB float32 (H, W, 3) in [0, 255] and depth float32 (H, W) along the optical axis."""
        width, height = (int(v) for v in camera.size.tolist())
        if self._camera is not camera:  # a drive renders many frames with one camera
            v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            pixels = torch.stack([u, v], -1).reshape(-1, 2).double() + 0.5
            self._rays, _ = camera.to(torch.float64).unproject(pixels)
            self._camera = camera
        rays = self._rays
        map_from_cam = cam_from_map.inverse()
        directions = (rays @ map_from_cam.rotation.T).float()
        origin = map_from_cam.translation.float()

        distance, box, face, uv = self._cast(origin, directions)
        size = 2 * self._half[box]
        axis = face // 2
        across = torch.where(axis == 0, size[:, 1], size[:, 0])
        texel = across / self._textures.widths(box * 6 + face)
        # how many texels one pixel covers, slanted surfaces included
        normal = torch.zeros_like(directions).scatter_(1, axis[:, None], 1.0)
        facing = (self._rotation[box] @ normal[..., None]).squeeze(-1)
        slant = (facing * directions).sum(-1).abs().clamp(min=0.1)
        footprint = distance / float(camera.focal.mean()) / texel / slant.sqrt()
        colour = self._textures.sample(box * 6 + face, uv, footprint.clamp(min=1).log2())
        # a lamp at the ceiling's middle: walls, floor and ceiling differ in brightness
        shade = torch.tensor([0.85, 0.95, 0.8, 0.9, 0.7, 1.0])[face]
        image = (colour * shade[:, None]).reshape(height, width, 3)
        depth = (distance * rays[:, 2].float()).reshape(height, width)
        return image.numpy(), depth.numpy()

    def _cast(self, origin: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Nearest hit of every ray by the slab method: distance, box, face, uv."""
        best = torch.full((len(directions),), torch.inf)
        box = torch.zeros(len(directions), dtype=torch.long)
        for i in range(len(self._centre)):
            start = self._rotation[i].T @ (origin - self._centre[i])
            ray = directions @ self._rotation[i]
            ray = torch.where(ray.abs() < 1e-9, torch.full_like(ray, 1e-9), ray)
            a, b = (-self._half[i] - start) / ray, (self._half[i] - start) / ray
            near, far = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
            hit = far if bool(self._inside[i]) else near
            closer = (far > near) & (hit > 1e-4) & (hit < best)
            best = torch.where(closer, hit, best)
            box = torch.where(closer, torch.full_like(box, i), box)
        rotation = self._rotation[box].transpose(-1, -2)
        hit = origin + directions * best[:, None]
        local = (rotation @ (hit - self._centre[box])[..., None]).squeeze(-1) / self._half[box]
        axis = local.abs().argmax(-1)
        face = axis * 2 + (local.gather(1, axis[:, None])[:, 0] > 0).long()
        u = torch.where(axis == 0, local[:, 1], local[:, 0])
        v = torch.where(axis == 2, local[:, 1], -local[:, 2])
        uv = ((torch.stack([u, v], -1) + 1) / 2).clamp(0, 1)
        return best, box, face, uv
