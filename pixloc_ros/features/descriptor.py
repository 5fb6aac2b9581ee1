"""A global image descriptor from the feature network's own encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pool_descriptor(encoding: Tensor, power: float = 3.0) -> Tensor:
    """Generalized-mean pooling of an encoder activation, (B, C, H, W) -> (B, 2 C), unit norm.

    Positive and negative parts are pooled apart, because the activations are signed.
    Source: Radenovic, Tolias, Chum, "Fine-tuning CNN image retrieval" (2018), equation 3.
    """
    parts = torch.cat([encoding, -encoding], 1).clamp(min=1e-6)
    pooled = parts.pow(power).mean((-1, -2)).pow(1 / power)
    return F.normalize(pooled, dim=-1)
