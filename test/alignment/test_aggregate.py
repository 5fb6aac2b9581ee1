from __future__ import annotations

import torch

from pixloc_ros.alignment import average_observations


def test_weighted_mean_per_point():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    mean, confidence = average_observations(
        features, torch.tensor([0.25, 0.75, 0.5]), torch.tensor([0, 0, 2]), 3
    )
    assert torch.allclose(mean, torch.tensor([[0.25, 0.75], [0.0, 0.0], [2.0, 2.0]]))
    assert torch.allclose(confidence, torch.tensor([0.5, 0.0, 0.5]))
