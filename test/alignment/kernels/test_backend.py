"""Without what a backend needs, alignment goes on in plain torch and says so once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
import torch
from problems import make_problem, starts

from pixloc_ros.alignment import LMOptions, learned_damping, optimize_level
from pixloc_ros.alignment.kernels import backend

pytestmark = pytest.mark.gpu
NUMBA, TRITON = "pixloc_ros.alignment.kernels.cpu", "pixloc_ros.alignment.kernels.cuda"


@pytest.fixture(autouse=True)
def forget():
    backend.fused.cache_clear()
    yield
    backend.fused.cache_clear()


def hide(patch, module, wanted):
    """As if a library were not installed."""
    patch.setitem(sys.modules, wanted, None)
    patch.delitem(sys.modules, module, raising=False)
    patch.delattr("pixloc_ros.alignment.kernels." + module.rsplit(".", 1)[1], raising=False)


def test_without_numba_the_poses_are_the_same(monkeypatch, caplog):
    problem, truth = make_problem()
    arguments = (problem, starts(truth, 2), learned_damping(torch.zeros(6)), LMOptions())
    fast = optimize_level(*arguments)
    backend.fused.cache_clear()
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        hide(patch, NUMBA, "numba")
        slow = optimize_level(*arguments)
        again = optimize_level(*arguments)
    assert torch.equal(slow.pose.translation, again.pose.translation)
    assert torch.allclose(fast.pose.translation, slow.pose.translation, atol=1e-5)
    assert torch.allclose(fast.pose.rotation, slow.pose.rotation, atol=1e-5)
    assert [r.message for r in caplog.records if "plain torch" in r.message] == [
        "alignment on cpu runs in plain torch, slower: import of numba halted; None in sys.modules"
    ]


def test_a_gpu_without_triton(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        hide(patch, TRITON, "triton")
        assert backend.fused(torch.device("cuda")) is None
    assert "alignment on cuda runs in plain torch" in caplog.text
    assert "triton" in caplog.text


def test_an_old_gpu(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (6, 1))
    with caplog.at_level(logging.WARNING):
        assert backend.fused(torch.device("cuda")) is None
    assert "compute capability 6.1, at least 7.5 is needed" in caplog.text


def test_the_first_launch_leaves_torch_its_threads():
    """Sums over threads differ in their last digits: all answers must be of as many."""
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from pixloc_ros.alignment.kernels import compiled\n"
        "compiled.compile_all(); print(torch.get_num_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
    )  # fmt: skip
    assert done.stdout.strip() == "1"
