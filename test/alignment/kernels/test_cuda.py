"""The kernels for GPUs: their arithmetic in Triton's interpreter, their compilation by ptxas.

On a machine with a GPU the comparison runs on it instead.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import fields, replace

import pytest
import torch
from problems import LENSES, ROBUST_KERNELS, make_problem, make_rig, starts

from pixloc_ros.alignment import LMOptions, learned_damping, optimize_level
from pixloc_ros.alignment.kernels import packing
from pixloc_ros.geometry import Pose

pytestmark = pytest.mark.gpu
pytest.importorskip("triton", reason="the kernels for GPUs are written in Triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DAMPING = learned_damping(torch.tensor([0.0, 0.1, -0.2, 0.3, -0.4, 0.5]))


@pytest.fixture(scope="module")
def cuda():
    """The module, interpreted where there is no GPU."""
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            patch.setenv("TRITON_INTERPRET", "1")
        name = "pixloc_ros.alignment.kernels.cuda"
        patch.delitem(sys.modules, name, raising=False)
        yield importlib.import_module(name)
        sys.modules.pop(name, None)


def on_device(level):
    """A packed level with its tensors where the kernels run."""
    values = {field.name: getattr(level, field.name) for field in fields(level)}
    return replace(
        level, **{k: v.to(DEVICE) for k, v in values.items() if isinstance(v, torch.Tensor)}
    )


def compare(cuda, problem, begin, options, plain):
    wanted = plain(optimize_level, problem, begin, DAMPING, options)
    there, running = on_device(packing.pack(problem)), packing.fresh_state(begin).to(DEVICE)
    cuda.optimize(there, running, DAMPING.to(DEVICE), options)
    parts, state = cuda.contributions(there, running).cpu(), running.cpu()
    level, pose = packing.pack(problem), packing.poses(state)
    for name in ("rotation", "translation"):
        a, b = getattr(pose, name), getattr(wanted.pose, name)
        assert float((a - b).norm() / b.norm()) < 1e-4
    failed = state[:, packing.FAILED] > 0
    assert torch.equal(failed, wanted.failed)
    if options.tolerance:
        assert torch.equal(state[:, packing.ITERATIONS].long(), wanted.iterations)
    ours, theirs = level.system(state, parts), wanted.system
    assert torch.equal(ours.valid, theirs.valid)
    assert torch.allclose(ours.cost, theirs.cost, rtol=1e-4, atol=1e-7)
    for name in ("hessian", "squared", "weight", "confidence", "pixels"):
        a, b = getattr(ours, name), getattr(theirs, name)
        if name in ("squared", "pixels"):
            a, b = a[ours.valid], b[ours.valid]
        assert float((a - b).norm() / b.norm()) < 1e-3, name


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: lens[0])
def test_equals_plain_torch(cuda, lens, plain):
    problem, truth = make_problem(lens, count=40, channels=20)
    compare(cuda, problem, starts(truth, 2), LMOptions(3, tolerance=0.0), plain)


@pytest.mark.parametrize("name", ROBUST_KERNELS)
def test_every_robust_kernel(cuda, name, plain):
    problem, truth = make_problem(count=30, channels=8, kernel=ROBUST_KERNELS[name], seed=3)
    compare(cuda, problem, starts(truth, 1), LMOptions(1, tolerance=0.0), plain)


@pytest.mark.parametrize("reject", [True, False])
def test_stops_where_plain_torch_stops(cuda, reject, plain):
    problem, truth = make_problem(count=40, channels=8, seed=4)
    options = LMOptions(10, tolerance=0.05, reject_steps=reject)
    compare(cuda, problem, starts(truth, 2), options, plain)


def test_a_rig_and_a_hopeless_hypothesis(cuda, plain):
    rig, truth = make_rig()
    away = Pose.from_rotvec(torch.tensor([0.0, 3.1, 0.0]), torch.zeros(3))
    begin = starts(truth, 2)
    mixed = Pose.stack([begin[0], away @ begin[1]])
    compare(cuda, rig, mixed, LMOptions(2, tolerance=0.0), plain)


COMPILE = """
import itertools
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from pixloc_ros.alignment.kernels import cuda, packing

def build(function, signature, constants, capability):
    source = ASTSource(function, signature | dict.fromkeys(constants, "constexpr"), constants)
    options = {"num_warps": 4}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

f32, names = "*fp32", "cameras points confidence state partial parts"
for capability, table, keep in ((75, "*fp32", True), (90, "*fp16", False)):
    signature = dict.fromkeys(names.split(), f32) | dict(
        rows=table, seen=f32, camera_of="*i32", features=table, unseen="fp32")
    order = "rows seen cameras camera_of points features confidence state partial parts unseen"
    signature = {name: signature[name] for name in order.split()}
    constants = dict(channels=32, wide=32, kind=packing.CAUCHY, alpha=1.0, scale=0.1, keep=keep)
    built = build(cuda._evaluate, signature, constants, capability)
    assert built.asm["cubin"]
signature = dict(state=f32, partial=f32, damping=f32, blocks="i32", tolerance="fp32", least="fp32")
for reject, last in ((True, False), (False, True)):
    constants = dict(room=128, rounds=2, reject=reject, last=last)
    assert build(cuda._advance, signature, constants, 90).asm["cubin"]
print("compiled")
"""


def test_compiles_for_gpus_that_are_not_here(tmp_path):
    """What the interpreter forgives and the compiler does not."""
    environment = {"TRITON_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    found = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, env=environment
    )
    assert found.stdout.strip() == "compiled", found.stderr[-2000:]
