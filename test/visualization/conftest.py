"""A recorded run in the rendered room."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixloc_ros.features import read_image
from pixloc_ros.localization import Prior, RunWriter, View


@pytest.fixture(scope="session")
def recorded(room, localizer, tmp_path_factory):
    """A run of three frames; the last one shows nothing."""
    path = tmp_path_factory.mktemp("run") / "drive.pixrun"
    localizer = localizer.traced()
    step = torch.tensor([0.15, 0.0, 0.1, 0.0, 0.05, 0.0], dtype=torch.float64)
    with RunWriter(path, localizer.map) as writer:
        for number in (0, 2):
            frame = room.sequence.frames[number]
            image = read_image(room.sequence.images / frame.name)
            prior = Prior(frame.truth.perturb(step))
            result = localizer.localize(image, frame.camera, prior)
            assert result.ok
            writer.add(frame.name, frame.stamp, [View(image, frame.camera)], prior, result)
        dark = np.zeros_like(image)
        refused = localizer.localize(dark, frame.camera)
        writer.add("dark.png", 9.0, [View(dark, frame.camera)], None, refused)
    return path
