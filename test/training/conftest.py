"""Small training data: a few textures, tiny images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixloc_ros.datasets.photographs import sample_photographs
from pixloc_ros.datasets.raycast import Textures
from pixloc_ros.features import new_network
from pixloc_ros.training.batch import StartOptions
from pixloc_ros.training.model import LossOptions
from pixloc_ros.training.options import OptimizerOptions, TrainingOptions, ValidationOptions
from pixloc_ros.training.synthetic import SyntheticOptions, SyntheticPairs


@pytest.fixture(scope="session")
def textures():
    pictures, materials = sample_photographs()
    return Textures([np.ascontiguousarray(p[:256, :256]) for p in pictures + materials])


@pytest.fixture
def options():
    """Two scenes of three small views: a step takes a fraction of a second."""
    return TrainingOptions(
        steps=6,
        synthetic=SyntheticOptions(scenes=2, views=3, pairs=1, points=64, sizes=[[96, 64]]),
        loss=LossOptions(iterations=2, group=1, retrieval=0.3),
        optimizer=OptimizerOptions(warm_up=2),
        validation=ValidationOptions(every=3, batches=1),
        log_every=1,
        save_every=2,
    )


@pytest.fixture
def source(textures):
    def make(options, seed=0):
        return SyntheticPairs(
            options.synthetic, StartOptions(), textures, seed, torch.device("cpu")
        )

    return make


@pytest.fixture
def fresh():
    def make(architecture="compact"):
        torch.manual_seed(0)
        return new_network(architecture)

    return make
