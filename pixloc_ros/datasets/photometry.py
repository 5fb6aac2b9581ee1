"""What light, lens, sensor and compression do to an image, different for each view."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-T T.81, annex K: quantization of luminance at quality 50
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def _cosines() -> Tensor:
    """The orthonormal 8-point discrete cosine transform."""
    k, n = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    basis = torch.cos(math.pi * (2 * n + 1) * k / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """The loss of JPEG compression, without its bits. ITU-T T.81 on 8 x 8 blocks.

    images: (B, 3, H, W) in [0, 1], H and W multiples of 8. quality: (B,) from 1 to 100;
    colours are quantized as coarsely as the luminance, not subsampled.
    """
    b, _, h, w = images.shape
    to_ycc = torch.tensor(_TO_YCC, device=images.device, dtype=images.dtype)
    basis = _cosines().to(images)
    factor = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    table = torch.tensor(_LUMINANCE, device=images.device, dtype=images.dtype)
    step = (table * factor[:, None, None]).clamp(min=1)[:, None, None, None]
    ycc = torch.einsum("ij,bjhw->bihw", to_ycc, images * 255 - 128)
    blocks = ycc.reshape(b, 3, h // 8, 8, w // 8, 8).transpose(3, 4)
    rounded = ((basis @ blocks @ basis.T) / step).round() * step
    ycc = (basis.T @ rounded @ basis).transpose(3, 4).reshape(b, 3, h, w)
    rgb = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(to_ycc), ycc)
    return ((rgb + 128) / 255).clamp(0, 1)


def _blur_kernels(random: np.random.Generator, count: int, size: int = 9) -> np.ndarray:
    """(count, size, size): none, defocus (Gaussian) or motion (a short line)."""
    y, x = np.mgrid[-(size // 2) : size // 2 + 1, -(size // 2) : size // 2 + 1].astype(float)
    kernels = np.zeros((count, size, size))
    for kernel in kernels:
        kind = random.random()
        sigma = random.uniform(0.5, 1.2)
        if kind < 0.5:
            kernel[size // 2, size // 2] = 1.0
        elif kind < 0.8:
            kernel[:] = np.exp(-(x * x + y * y) / (2 * sigma**2))
        else:
            angle, length = random.uniform(0, math.pi), random.uniform(1.0, 3.5)
            along = x * math.cos(angle) + y * math.sin(angle)
            across = y * math.cos(angle) - x * math.sin(angle)
            kernel[:] = np.exp(-(across**2)) * (np.abs(along) <= length)
    return kernels / kernels.sum((1, 2), keepdims=True)


def photograph(images: Tensor, random: np.random.Generator) -> Tensor:
    """Photograph ideal images (B, 3, H, W) in [0, 1], each with a camera of its own.

    Illumination fields, vignetting, exposure, white balance, saturation down to grey, gamma,
    blur, noise and JPEG, drawn from `random`; the noise from a generator of the images' device
    seeded by it.
    """
    b, _, h, w = images.shape
    device = images.device

    def draw(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.float32)).to(device).reshape(b, -1, 1, 1)

    coarse = np.exp(random.normal(0, 0.22, (b, 1, 3, 4)) * random.uniform(0, 1, (b, 1, 1, 1)))
    field = torch.from_numpy(coarse.astype(np.float32)).to(device)
    images = images * F.interpolate(field, (h, w), mode="bicubic", align_corners=True)
    y = torch.linspace(-1, 1, h, device=device)[:, None]
    x = torch.linspace(-1, 1, w, device=device)
    images = images * (1 - draw(random.uniform(0, 0.3, b)) * (x * x + y * y))
    # one image in five has a wrong white balance
    cast = np.where(random.random((b, 1)) < 0.2, 0.3, 0.07)
    exposure = np.exp(random.normal(0, 0.3, (b, 1)) + cast * random.normal(0, 1, (b, 3)))
    images = images * draw(exposure)
    grey = images.mean(1, keepdim=True)
    kept = random.uniform(0.5, 1.2, b)
    # a fifth of all places is seen by grey cameras: one draw for all views of a batch
    kept = np.where(random.random() < 0.2, 0.0, kept)
    images = (grey + (images - grey) * draw(kept)).clamp(0, 1.5)
    images = images.clamp(1e-4, 1) ** draw(np.exp(random.normal(0, 0.25, b)))
    contrast, lift = random.uniform(0.6, 1.15, b), random.uniform(-0.04, 0.12, b)
    images = (images - 0.5) * draw(contrast) + 0.5 + draw(lift - 0.5 * (1 - contrast) * 0.3)
    kernels = torch.from_numpy(_blur_kernels(random, b).astype(np.float32)).to(device)
    weight = kernels[:, None].repeat_interleave(3, 0)
    padded = F.pad(images.reshape(1, 3 * b, h, w), (4, 4, 4, 4), mode="replicate")
    images = F.conv2d(padded, weight, groups=3 * b).reshape(b, 3, h, w)
    sigma = random.uniform(0.002, 0.02, b) * np.where(random.random(b) < 0.15, 2.5, 1)
    generator = torch.Generator(device).manual_seed(int(random.integers(2**62)))
    noise = torch.randn(images.shape, device=device, generator=generator)
    images = (images + noise * draw(sigma) * (0.5 + images)).clamp(0, 1)
    quality = torch.from_numpy(random.uniform(35, 98, b).astype(np.float32)).to(device)
    return jpeg(images, quality)
