"""What a GPU records must not depend on what is in its memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from pixloc_ros.alignment.kernels import packing
from pixloc_ros.features import read_image
from pixloc_ros.geometry import Pose
from pixloc_ros.localization import Prior, View


@pytest.fixture
def recorded(localizer, room, monkeypatch):
    """Calls of what would be recorded: the function, its inputs and constants."""
    calls = []
    for owner in (localizer._refinement, localizer.extract):
        graphed = owner._graphed

        def watched(function, inputs, *constants, graphed=graphed):
            calls.append((function, list(inputs), constants))
            return graphed(function, inputs, *constants)

        monkeypatch.setattr(owner, "_graphed", watched)
    frame = room.sequence.frames[2]
    image = read_image(room.sequence.images / frame.name)
    covariance = torch.diag(torch.tensor([0.1] * 3 + [0.05] * 3, dtype=torch.float64))
    localizer.localize(image, frame.camera)
    localizer.localize(image, frame.camera, Prior(frame.truth, covariance))
    turn = Pose.from_rotvec(torch.tensor([0.0, 0.4, 0.0]).double(), torch.zeros(3).double())
    views = [View(image, frame.camera), View(image, frame.camera, turn)]
    localizer.localize_views(views, Prior(frame.truth))
    assert {call[2][0].from_prior for call in calls} == {True, False}
    assert {call[2][0].views for call in calls} == {1, 2}
    return calls


class NoNumbersFromTheHost(TorchFunctionMode):
    """Fails where a single number of a tensor is set: on a GPU it would be copied from the host,
    which cannot be recorded. `fill_` is a kernel of the device.
    """

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is torch.Tensor.__setitem__ and isinstance(arguments[2], (int, float)):
            assert arguments[0][arguments[1]].dim() > 0, "one number is copied from the host"
        return function(*arguments, **(keywords or {}))


def test_alignment_never_asks_the_device(recorded, monkeypatch):
    """With tensors that hold nothing: whatever reads one raises."""
    ran = []
    kernels = SimpleNamespace(
        optimize=lambda level, state, damping, options: ran.append(state.shape),
        contributions=lambda level, state: state.new_empty(
            len(state), len(level.points), packing.POINT
        ),
    )
    monkeypatch.setattr("pixloc_ros.alignment.levenberg_marquardt.fused", lambda device: kernels)
    for function, inputs, constants in recorded:
        with torch.no_grad():
            wanted = function.__func__
            with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                fake = [mode.from_tensor(t) for t in inputs]
                with NoNumbersFromTheHost():
                    (answer,) = wanted(function.__self__, *fake, *constants)
        assert answer.shape[0] >= 1
    assert ran


def test_extraction_never_asks_the_device(localizer, room):
    image = read_image(room.sequence.images / room.sequence.frames[2].name)
    extract = localizer.extract
    extract._prepare_resizing(image.shape[1], image.shape[0])
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        outputs = extract._extract(mode.from_tensor(torch.from_numpy(image)))
    assert len(outputs) == 2 * len(localizer.map.header.levels) + 1
