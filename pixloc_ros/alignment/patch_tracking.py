"""Where an image shows small patches of other images: Lucas-Kanade, sub-pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.alignment.kernels.backend import fused

ITERATIONS = 8
REACH = 4.0
"""Largest way of a patch from where it is expected, in pixels of the image."""
LEAST_CONTRAST = 2.0
"""Standard deviation of grey values from which a patch can be told from its surroundings."""
LONGEST_STEP = 1.5
STILL = 0.02
"""Step, in pixels of the patch, after which it has arrived."""


@dataclass(frozen=True)
class PatchTracks:
    """pixels: (N, 2) float32, where the patches are. similarity: (N,) float32, the correlation
    of their grey values there (zero-mean, normalized), -1 for a patch that was not found.
    """

    pixels: Tensor
    similarity: Tensor


def track_patches(image: Tensor, patches: Tensor, affine: Tensor, pixels: Tensor) -> PatchTracks:
    """Move each patch to where it looks most like the image.

    image: (H, W) float32 grey values. patches: (N, S, S) uint8, S odd. affine: (N, 2, 2) float32,
    from pixels of the patch to those of the image. pixels: (N, 2) float32, where the centres are
    expected, first pixel centre at (.5, .5).
    Source: Baker, Matthews, "Lucas-Kanade 20 years on" (IJCV 2004), section 3.2 (inverse
    compositional), on zero-mean patches of unit norm, which brightness and contrast do not change.
    """
    if fused(torch.device("cpu")) is None:
        return track_reference(image, patches, affine, pixels)
    from pixloc_ros.alignment.kernels import patches as kernel

    limits = np.array([ITERATIONS, REACH, LEAST_CONTRAST, LONGEST_STEP, STILL], np.float32)
    found, similarity = kernel.track(
        image.numpy(), patches.numpy(), affine.numpy(), pixels.numpy(), limits
    )
    return PatchTracks(torch.from_numpy(found), torch.from_numpy(similarity))


def _gradient(values: Tensor, dim: int) -> Tensor:
    (gradient,) = torch.gradient(values, dim=dim)
    return gradient


def track_reference(image: Tensor, patches: Tensor, affine: Tensor, pixels: Tensor) -> PatchTracks:
    """`track_patches` in plain torch: what the kernel must equal."""
    count, side = len(patches), patches.shape[-1]
    centred = patches.float() - patches.float().mean((1, 2), keepdim=True)
    norm = centred.flatten(1).norm(dim=-1)
    good = norm >= LEAST_CONTRAST * side
    template = centred / norm.clamp(min=1e-6)[:, None, None]
    slopes = torch.stack([_gradient(template, 2), _gradient(template, 1)], 1).flatten(2)
    template = template.flatten(1)
    slopes = slopes - slopes.mean(-1, keepdim=True)
    # along the template itself a normalized patch cannot change
    slopes = slopes - (slopes @ template[..., None]) * template[:, None]
    hessian = slopes @ slopes.transpose(1, 2)
    good = good & (torch.linalg.det(hessian) > 1e-8)
    inverse = torch.linalg.inv(torch.where(good[:, None, None], hessian, torch.eye(2)))

    along = torch.arange(side) - (side - 1) / 2
    y, x = torch.meshgrid(along, along, indexing="ij")
    around = torch.stack([x, y], -1).reshape(-1, 2).float() @ affine.transpose(1, 2)
    limit = torch.tensor(image.shape[::-1], dtype=torch.float32)
    table = image.flatten()
    width = image.shape[1]
    place, similarity = pixels.clone(), torch.full((count,), -1.0)
    moving = good.clone()
    for iteration in range(ITERATIONS + 1):
        index = place[:, None] + around - 0.5
        inside = ((index >= 0) & (index < limit - 1)).flatten(1).all(-1)
        good = good & (inside | ~moving)
        index = torch.where(inside[:, None, None], index, torch.zeros(()))
        base = index.floor()
        fx, fy = (index - base).unbind(-1)
        row = base[..., 1].long() * width + base[..., 0].long()
        top = table[row] * (1 - fx) + table[row + 1] * fx
        bottom = table[row + width] * (1 - fx) + table[row + width + 1] * fx
        values = top * (1 - fy) + bottom * fy
        values = values - values.mean(-1, keepdim=True)
        size = values.norm(dim=-1)
        good = good & ((size >= LEAST_CONTRAST * side / 2) | ~moving)
        values = values / size.clamp(min=1e-6)[:, None]
        similarity = torch.where(moving, (values * template).sum(-1), similarity)
        if iteration == ITERATIONS:
            break
        step = (inverse @ (slopes @ values[..., None])).squeeze(-1)
        length = step.norm(dim=-1)
        step = step * (LONGEST_STEP / length.clamp(min=LONGEST_STEP))[:, None]
        moved = place - (affine @ step[..., None]).squeeze(-1)
        place = torch.where((moving & good)[:, None], moved, place)
        good = good & ((place - pixels).norm(dim=-1) <= REACH)
        moving = moving & good & ((length >= STILL) | (iteration == 0))
    found = torch.where(good[:, None], place, pixels)
    return PatchTracks(found, torch.where(good, similarity, torch.tensor(-1.0)))
