"""The kernels for processors equal plain torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from problems import LENSES, ROBUST_KERNELS, camera_of, make_problem, make_rig, starts

from pixloc_ros.alignment import LMOptions, learned_damping, optimize_level
from pixloc_ros.alignment.kernels.packing import can_pack
from pixloc_ros.geometry import Lens, Pose

pytest.importorskip("numba", reason="the kernels for processors are compiled by numba")

DAMPING = learned_damping(torch.tensor([0.0, 0.1, -0.2, 0.3, -0.4, 0.5]))


def compare(problem, begin, options, plain, tolerance=1e-4):
    assert can_pack(problem, begin, DAMPING)
    wanted = plain(optimize_level, problem, begin, DAMPING, options)
    found = optimize_level(problem, begin, DAMPING, options)
    for name in ("rotation", "translation"):
        a, b = getattr(found.pose, name), getattr(wanted.pose, name)
        assert float((a - b).norm() / b.norm()) < tolerance
    assert torch.equal(found.failed, wanted.failed)
    assert torch.allclose(found.cost, wanted.cost, rtol=1e-4, atol=1e-7)
    ours, theirs = found.system, wanted.system
    assert torch.equal(ours.valid, theirs.valid)
    for name in ("hessian", "gradient", "squared", "weight", "confidence", "pixels"):
        a, b = getattr(ours, name), getattr(theirs, name)
        if name in ("squared", "pixels"):
            a, b = a[ours.valid], b[ours.valid]
        scale = wanted.system.hessian.norm() if name == "gradient" else b.norm()
        assert float((a - b).norm() / scale) < 1e-3, name
    return found, wanted


def test_no_lens_is_left_out():
    assert {camera_of(lens, 80, 60).lens for lens in LENSES} == set(Lens)


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: lens[0])
@pytest.mark.parametrize("iterations", [1, 2, 8])
def test_poses_after_every_iteration(lens, iterations, plain):
    problem, truth = make_problem(lens)
    options = LMOptions(iterations, tolerance=0.0)
    compare(problem, starts(truth, 3), options, plain)


@pytest.mark.parametrize("name", ROBUST_KERNELS)
def test_every_robust_kernel(name, plain):
    problem, truth = make_problem(kernel=ROBUST_KERNELS[name], seed=3)
    compare(problem, starts(truth, 2), LMOptions(4, tolerance=0.0), plain)


@pytest.mark.parametrize("reject", [True, False])
@pytest.mark.parametrize("pad", [0.0, 2.0])
def test_stops_where_plain_torch_stops(reject, pad, plain):
    problem, truth = make_problem(seed=4, pad=pad)
    options = LMOptions(tolerance=0.02, reject_steps=reject)
    found, wanted = compare(problem, starts(truth, 4), options, plain)
    assert torch.equal(found.iterations, wanted.iterations)
    assert 0 < int(found.iterations.min()) < options.iterations


@pytest.mark.parametrize("channels", [3, 20, 128])
def test_any_number_of_channels(channels, plain):
    problem, truth = make_problem(channels=channels, count=37, seed=5)
    compare(problem, starts(truth, 1), LMOptions(3, tolerance=0.0), plain)


def test_half_precision_maps(plain):
    problem, truth = make_problem(seed=6, half=True)
    compare(problem, starts(truth, 2), LMOptions(4, tolerance=0.0), plain)


def test_a_rig_of_unlike_cameras(plain):
    rig, truth = make_rig()
    compare(rig, starts(truth, 3), LMOptions(6, tolerance=0.0), plain)


def test_hopeless_hypotheses_fail_alone(plain):
    problem, truth = make_problem()
    begin = starts(truth, 3)
    away = Pose.from_rotvec(torch.tensor([0.0, 3.1, 0.0]), torch.zeros(3))
    nothing = Pose(torch.full((3, 3), torch.nan), torch.zeros(3))
    mixed = Pose.stack([begin[0], away @ begin[1], nothing])
    wanted = plain(optimize_level, problem, mixed, DAMPING, LMOptions())
    found = optimize_level(problem, mixed, DAMPING, LMOptions())
    assert found.failed.tolist() == wanted.failed.tolist() == [False, True, True]
    assert torch.allclose(found.pose.translation[:2], wanted.pose.translation[:2], atol=1e-4)


def test_what_is_differentiated_runs_in_plain_torch():
    problem, truth = make_problem()
    damping = DAMPING.clone().requires_grad_()
    result = optimize_level(problem, starts(truth, 1), damping, LMOptions(3, tolerance=0.0))
    result.pose.translation.sum().backward()
    assert float(damping.grad.abs().sum()) > 0


def test_does_not_depend_on_threads():
    problem, truth = make_problem(count=500)
    before, poses = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            poses.append(optimize_level(problem, starts(truth, 3), DAMPING, LMOptions()).pose)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(poses[0].translation, poses[1].translation)
    assert torch.equal(poses[0].rotation, poses[1].rotation)


SEVERAL = """
import threading
import numba, torch
from problems import make_problem, starts
from pixloc_ros.alignment import LMOptions, learned_damping, optimize_level

problem, truth = make_problem(count=200)
begin, damping = starts(truth, 3), learned_damping(torch.zeros(6))

def work():
    for _ in range(50):
        optimize_level(problem, begin, damping, LMOptions(5, tolerance=0.0))

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(numba.threading_layer())
"""


def test_several_threads_may_call_at_once(monkeypatch):
    """Numba's own pool, which is all there is without OpenMP, would end the process."""
    monkeypatch.setenv("NUMBA_THREADING_LAYER", "workqueue")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    found = subprocess.run([sys.executable, "-c", SEVERAL], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.strip() == "workqueue"
