"""The network of PixLoc (CVPR 2021), in the key layout of its released checkpoints."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixloc_ros.features.network import FeatureNetwork, NetworkOutput

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Encoder = Literal["vgg19", "vgg16"]
_CONVOLUTIONS: dict[str, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)
_TAPS = (4, 2, 0)  # decoder blocks after which the levels, of strides 1, 4 and 16, are taken


class _DecoderBlock(nn.Module):
    """Upsample by two, concatenate the skip, convolve."""

    def __init__(self, below: int, skip: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(below + skip, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        up = F.interpolate(below, scale_factor=2, mode="bilinear", align_corners=False)
        # odd sizes lose a row or column in pooling: the skip is cut, so strides stay exact
        skip = skip[:, :, : up.shape[2], : up.shape[3]]
        return self.layers(torch.cat([up, skip], 1))


class _Extractor(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = 3
        for number, (width, count) in enumerate(zip(_WIDTHS, _CONVOLUTIONS[encoder], strict=True)):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
            for _ in range(count):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
                before = width
            blocks.append(nn.Sequential(*layers))
        self.encoder = nn.ModuleList(blocks)
        widths = (64, 64, 64, 32)
        self.decoder = nn.ModuleList(
            _DecoderBlock(below, skip, out)
            for below, skip, out in zip(
                (512, *widths[:3]), (512, 256, 128, 64), widths, strict=True
            )
        )
        taps = ((32, 32), (64, 128), (512, 128))
        self.adaptation = nn.ModuleList(nn.Sequential(nn.Conv2d(i, o, 1)) for i, o in taps)
        self.uncertainty = nn.ModuleList(nn.Sequential(nn.Conv2d(i, 1, 1)) for i, _ in taps)


class _Damping(nn.Module):
    """Holds theta under the name the released checkpoints use."""

    def __init__(self) -> None:
        super().__init__()
        self.dampingnet = nn.Module()
        self.dampingnet.register_parameter("const", nn.Parameter(torch.zeros(6)))


class PixLocNetwork(FeatureNetwork):
    """VGG encoder and U-Net decoder; 21 M parameters with VGG19.

    Source: Sarlin et al., "Back to the Feature" (CVPR 2021), section 3 and supplement.
    """

    strides = (1, 4, 16)
    offsets = (0.0, 0.0, 0.0)
    channels = (32, 128, 128)
    speeds = {
        "fast": ((512, 2), (512, 1), (512, 0)),
        "accurate": ((1024, 2), (1024, 1), (1024, 0)),
        "exact": ((1024, 2), (1024, 1), (1024, 0)),
    }
    area_resize = False

    _mean: Tensor
    _std: Tensor

    def __init__(self, encoder: Encoder = "vgg19") -> None:
        super().__init__()
        self.extractor = _Extractor(encoder)
        self.optimizer = nn.ModuleList(_Damping() for _ in range(3))
        self.register_buffer("_mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("_std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor, finest: int = 0) -> NetworkOutput:
        if min(images.shape[-2:]) < 16:
            raise ValueError(f"images of at least 16 x 16 pixels, not {tuple(images.shape[-2:])}")
        x = (images - self._mean) / self._std
        skips = []
        for block in self.extractor.encoder:
            x = block(x)
            skips.append(x)
        features = [images.new_empty(0) for _ in self.strides]
        confidence = list(features)
        for number in range(_TAPS[finest] + 1):
            if number:
                x = self.extractor.decoder[number - 1](x, skips[-1 - number])
            if number in _TAPS:
                level = _TAPS.index(number)
                features[level] = self.extractor.adaptation[level](x)
                confidence[level] = torch.sigmoid(-self.extractor.uncertainty[level](x))[:, 0]
        return NetworkOutput(tuple(features), tuple(confidence), skips[-1])

    def damping_parameters(self, level: int) -> Tensor:
        return self.get_parameter(f"optimizer.{level}.dampingnet.const")


class PixLocVGG19(PixLocNetwork):
    architecture = "pixloc_vgg19"

    def __init__(self) -> None:
        super().__init__("vgg19")


class PixLocVGG16(PixLocNetwork):
    architecture = "pixloc_vgg16"

    def __init__(self) -> None:
        super().__init__("vgg16")
