"""A network for inference: the same answers from fewer operations."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

from torch import nn

from pixloc_ros.features.compact import Block

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norms(network: Network) -> Network:
    """A copy for inference in which every batch norm is part of the convolution before it."""
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in folded.modules():
        names = list(parent._modules)
        for first, second in pairwise(names):
            convolution, norm = parent._modules[first], parent._modules[second]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                fused = nn.utils.fuse_conv_bn_eval(convolution, norm)
                parent._modules[first] = fused.requires_grad_(False)
                parent._modules[second] = nn.Identity()
    return folded


def fold_padding(folded: Network) -> Network:
    """Have convolutions pad by themselves, in place; worth it on a processor."""
    for module in folded.modules():
        if isinstance(module, Block):
            module.fold_padding()
    return folded
