"""The recorded network, rebuilt from its integer recipe."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from pixloc_ros.features import load_network


@pytest.fixture(scope="session")
def recipe(parity):
    spec = importlib.util.spec_from_file_location("parity_weights", parity / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def checkpoints(parity, recipe, tmp_path_factory):
    """Files of both encoders of the original, in its released layout."""
    digests = dict(
        reversed(line.split()[:2])
        for line in (parity / "weights_sha256.txt").read_text().splitlines()
        if line.strip()
    )
    written = {}
    for encoder in ("vgg19", "vgg16"):
        archive = np.load(parity / f"calib_{encoder}.npz")
        state = recipe.apply_calib(
            recipe.base_state(encoder), {k: archive[k] for k in archive.files}
        )
        assert recipe.digest(state) == digests[encoder]
        path = tmp_path_factory.mktemp(encoder) / "checkpoint_best.tar"
        torch.save(recipe.checkpoint_dict(state, encoder), path)
        written[encoder] = path
    return written


@pytest.fixture(scope="session")
def networks(checkpoints):
    return {encoder: load_network(path) for encoder, path in checkpoints.items()}


@pytest.fixture(scope="session")
def case(parity):
    cache = {}

    def load(name):
        if name not in cache:
            cache[name] = dict(np.load(next(parity.glob(f"case{name}_*.npz"))))
        return cache[name]

    return load
