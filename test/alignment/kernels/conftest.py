"""The torch twin of the kernels."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def plain(monkeypatch):
    """A call that runs the torch twin, whatever kernels there are."""

    def call(function, *arguments):
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr("pixloc_ros.alignment.levenberg_marquardt.can_pack", lambda *_: False)
            return function(*arguments)

    return call
