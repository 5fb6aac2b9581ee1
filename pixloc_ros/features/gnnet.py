"""GN-Net: features trained to be descended on, without confidences and without learned damping."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pixloc_ros.features.compact import CompactNetwork

DAMPING = 1e-3


class GNNet(CompactNetwork):
    """The encoder and decoder of the compact network as GN-Net uses one.

    von Stumberg, Wenzel, Khan, Cremers, "GN-Net: The Gauss-Newton Loss for Multi-Weather
    Relocalization" (RA-L 2020). Every cell counts alike, and alignment is the classic
    Levenberg-Marquardt with one constant damping factor.
    """

    architecture = "gnnet"

    def __init__(self) -> None:
        super().__init__()
        self.confidence_heads = nn.ModuleList()
        share = (math.log10(DAMPING) + 6) / 11
        theta = torch.full((3, 6), math.log(share / (1 - share)))
        del self.damping
        self.register_buffer("damping", theta)

    def confidence(self, level: int, decoded: Tensor) -> Tensor:
        return torch.ones_like(decoded[:, 0])
