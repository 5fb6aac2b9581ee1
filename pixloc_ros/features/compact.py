"""A compact network for robots: EfficientNet-Lite0 encoder up to stride 16, light decoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixloc_ros.features.descriptor import pool_descriptor
from pixloc_ros.features.network import FeatureNetwork, NetworkOutput

# kernel, stride, expansion, output channels of the first eleven blocks of EfficientNet-Lite0
_BLOCKS = (
    (3, 1, 1, 16),
    (3, 2, 6, 24),
    (3, 1, 6, 24),
    (5, 2, 6, 40),
    (5, 1, 6, 40),
    (3, 2, 6, 80),
    (3, 1, 6, 80),
    (3, 1, 6, 80),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
)
_TAPS = (0, 2, 4, 10)  # the last blocks at strides 2, 4, 8, 16
_TAP_WIDTHS = (16, 24, 40, 112)
_DECODERS = (0, 1, 3)  # whose outputs the levels are


def _batch_norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


def _same_pad(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME padding, with which the encoder was trained."""
    pads = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class Block(nn.Module):
    """Inverted residual block, named as the published weights are."""

    def __init__(self, before: int, kernel: int, stride: int, expansion: int, out: int) -> None:
        super().__init__()
        wide = before * expansion
        self.kernel, self.stride = kernel, stride
        self.residual = stride == 1 and before == out
        self._folded = False
        self._expand_conv: nn.Module | None = None
        if expansion > 1:
            self._expand_conv = nn.Conv2d(before, wide, 1, bias=False)
            self._bn0 = _batch_norm(wide)
        # with stride 1 the padding is even, and the convolution's own
        even = kernel // 2 if stride == 1 else 0
        self._depthwise_conv = nn.Conv2d(
            wide, wide, kernel, stride=stride, padding=even, groups=wide, bias=False
        )
        self._bn1 = _batch_norm(wide)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = _batch_norm(out)

    def fold_padding(self) -> None:
        """Have a convolution of stride 2 pad by itself: on a processor that saves a copy of what
        it reads.

        SAME padding has one more row and column after than before. With a row and a column of
        zeros before the kernel it is even. Images have even sides here.
        """
        if self.stride == 1 or self._folded:
            return
        old = self._depthwise_conv
        weight = F.pad(old.weight.detach(), (1, 0, 1, 0))
        width, _, side, _ = weight.shape
        self._depthwise_conv = nn.Conv2d(
            width, width, side, self.stride, side // 2 - 1, groups=width, bias=old.bias is not None
        ).to(weight)
        self._depthwise_conv.weight = nn.Parameter(weight, requires_grad=False)
        self._depthwise_conv.bias = old.bias
        self._folded = True

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self._expand_conv is not None:
            y = F.relu6(self._bn0(self._expand_conv(y)), inplace=True)
        if self.stride > 1 and not self._folded:
            y = _same_pad(y, self.kernel, self.stride)
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self._bn0 = _batch_norm(32)
        before = 32
        blocks = []
        for kernel, stride, expansion, out in _BLOCKS:
            blocks.append(Block(before, kernel, stride, expansion, out))
            before = out
        self._blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = (images * 255 - 127) / 128
        x = F.relu6(self._bn0(self._conv_stem(_same_pad(x, 3, 2))), inplace=True)
        taps = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in _TAPS:
                taps.append(x)
        return taps

    def tap_statistics(self, tap: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C,) of a tap, read off its batch norms.

        A tap is a sum of normalized branches, so its mean is the sum of their shifts and,
        taking branches as independent, its variance the sum of their squared gains.
        """
        blocks = [b for b in self._blocks if isinstance(b, Block)]
        first = last = _TAPS[tap]
        while blocks[first].residual:
            first -= 1
        norms = [block._bn2 for block in blocks[first : last + 1]]
        mean = torch.stack([n.bias.detach() for n in norms]).sum(0)
        variance = torch.stack([n.weight.detach() ** 2 for n in norms]).sum(0)
        return mean, variance.sqrt()


class CompactNetwork(FeatureNetwork):
    """1.07 M parameters; feature levels at strides 2, 4 and 16.

    Images are padded on the right and bottom to a multiple of 16, so that the padding of
    every strided convolution, and with it the offset of every level, does not depend on
    the image size.
    """

    architecture = "compact"
    strides = (2, 4, 16)
    # SAME padding puts the window of a stride-2 convolution half an input pixel late; over
    # the stages this adds up to (stride - 1) / 2 input pixels
    offsets = (0.5, 1.5, 7.5)
    channels = (32, 64, 128)
    speeds = {
        "fast": ((320, 2), (320, 1), (320, 0)),
        "accurate": ((320, 2), (640, 2), (640, 1), (640, 0)),
        "exact": ((320, 2), (640, 2), (640, 1), (1024, 0)),
    }
    area_resize = True

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Encoder()
        widths = (32, 64, 64, 128)  # decoder outputs at strides 2, 4, 8, 16
        below = (64, 64, 128, 0)
        self.decoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(skip + b, out, 3, padding=1, bias=False),
                _batch_norm(out),
                nn.ReLU(inplace=True),
            )
            for skip, b, out in zip(_TAP_WIDTHS, below, widths, strict=True)
        )
        used = (32, 64, 128)
        self.heads = nn.ModuleList(
            nn.Conv2d(i, o, 1) for i, o in zip(used, self.channels, strict=True)
        )
        self.confidence_heads = nn.ModuleList(nn.Conv2d(i, 1, 1) for i in used)
        self.damping = nn.Parameter(torch.zeros(3, 6))
        width = 2 * _TAP_WIDTHS[3]
        self.whitening = nn.Linear(width, width)

    def forward(self, images: Tensor, finest: int = 0) -> NetworkOutput:
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % 16, 0, -height % 16))
        taps = self.encoder(padded)
        features = [images.new_empty(0) for _ in self.strides]
        confidence = list(features)
        x = taps[3]
        for number in range(3, _DECODERS[finest] - 1, -1):
            if number < 3:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
                x = torch.cat([taps[number], x], 1)
            x = self.decoder[number](x)
            if number in _DECODERS:
                level = _DECODERS.index(number)
                features[level] = self.heads[level](x)
                confidence[level] = self.confidence(level, x)
        return NetworkOutput(tuple(features), tuple(confidence), taps[3])

    def confidence(self, level: int, decoded: Tensor) -> Tensor:
        """Confidence (B, H, W) of a level from its decoder output (B, C, H, W)."""
        return torch.sigmoid(-self.confidence_heads[level](decoded))[:, 0]

    def describe(self, encoding: Tensor) -> Tensor:
        """Pooled and whitened: Radenovic, Tolias, Chum (2018), section 3.3, learned jointly."""
        return F.normalize(self.whitening(pool_descriptor(encoding)), dim=-1)

    def damping_parameters(self, level: int) -> Tensor:
        return self.damping[level]

    def load_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Take the encoder from a state dict of EfficientNet-Lite0; later layers are ignored."""
        wanted = self.encoder.state_dict()
        missing = [k for k in wanted if k not in state]
        if missing:
            raise KeyError(f"not EfficientNet-Lite0 weights: {missing[0]} is missing")
        self.encoder.load_state_dict({k: state[k] for k in wanted})

    @torch.no_grad()
    def pass_through(self) -> None:
        """Set decoder and heads so that each level is its encoder tap, standardized.

        Before any training this makes the pyramid that of the ImageNet encoder, and it is
        the start of training. The skip passes the ReLU of its decoder block lifted by four
        standard deviations, which the head takes off again.
        """
        self.whitening.weight.copy_(torch.eye(len(self.whitening.weight)))
        self.whitening.bias.zero_()
        lift = 4.0
        for tap, width in enumerate(_TAP_WIDTHS):
            conv = self.get_submodule(f"decoder.{tap}.0")
            norm = self.get_submodule(f"decoder.{tap}.1")
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            mean, deviation = self.encoder.tap_statistics(tap)
            rows = torch.arange(width)
            conv.weight.zero_()
            conv.weight[rows, rows, 1, 1] = 1 / deviation
            norm.reset_running_stats()
            norm.weight.fill_((1 + norm.eps) ** 0.5)
            norm.bias.zero_()
            norm.bias[rows] = lift - mean / deviation
            if tap == 2:
                continue  # stride 8 has no head
            level = {0: 0, 1: 1, 3: 2}[tap]
            parts = [self.heads[level], *list(self.confidence_heads)[level : level + 1]]
            for parameter in (p for part in parts for p in part.parameters()):
                parameter.zero_()
            self.get_parameter(f"heads.{level}.weight")[rows, rows, 0, 0] = 1.0
            self.get_parameter(f"heads.{level}.bias")[rows] = -lift
