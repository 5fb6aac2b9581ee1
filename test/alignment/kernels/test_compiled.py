"""Kernels are kept wherever something can be written, and nowhere that others may write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import pixloc_ros
from pixloc_ros import kept
from pixloc_ros.alignment.kernels import compiled


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """Neither the package nor a home can be written; the folder for temporary files can."""
    monkeypatch.setattr(compiled, "is_writable", lambda folder: False)
    monkeypatch.setattr(kept.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    return tmp_path / f"pixloc_ros-{os.getuid()}"


def test_beside_the_source_where_it_can_be(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    compiled.use_writable_cache(str(tmp_path / "cpu.py"))
    assert numba.config.CACHE_DIR == ""


def test_else_in_a_folder_of_its_own(nowhere):
    compiled.use_writable_cache("/opt/pixloc_ros/cpu.py")
    assert str(nowhere) == numba.config.CACHE_DIR
    assert nowhere.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("trap", ["open to others", "a link", "a file"])
def test_not_in_a_folder_that_others_may_write(nowhere, tmp_path, trap):
    if trap == "open to others":
        nowhere.mkdir()
        nowhere.chmod(0o777)
    elif trap == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        nowhere.symlink_to(tmp_path / "elsewhere")
    else:
        nowhere.write_text("")
    compiled.use_writable_cache("/opt/pixloc_ros/cpu.py")
    assert numba.config.CACHE_DIR == ""


ROOT = Path(pixloc_ros.__file__).parents[1]
ALIGN = """
import torch
from problems import make_problem, starts
from pixloc_ros.alignment import LMOptions, learned_damping, optimize_level
from pixloc_ros.alignment.kernels import backend
torch.manual_seed(0)
problem, truth = make_problem()
damping = learned_damping(torch.zeros(6))
with torch.no_grad():
    found = optimize_level(problem, starts(truth, 2), damping, LMOptions(iterations=3))
print(backend.__file__, backend.fused(torch.device("cpu")))
print(found.pose.matrix().numpy().tobytes().hex())
"""
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && "$2" "$3"'


def test_a_read_only_installation_without_a_home_compiles_once(tmp_path):
    """For real, where this machine lets a process mount. Twice, as what numba has just compiled
    rounds otherwise than what it keeps.
    """
    installed = tmp_path / "installed"
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(pixloc_ros.__file__).parent, installed / "pixloc_ros", ignore=unwanted)
    script = tmp_path / "align.py"
    script.write_text(ALIGN)
    environment = os.environ | {
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(installed), str(Path(__file__).parent)]),
        **dict.fromkeys(("HOME", "XDG_CACHE_HOME"), "/proc/none"),
    }
    environment.pop("NUMBA_CACHE_DIR", None)
    command = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(installed)]
    mounts = subprocess.run([*command, "true", "true"], capture_output=True).returncode == 0
    if not mounts:
        command = []
        environment["NUMBA_CACHE_DIR"] = str(tmp_path / f"pixloc_ros-{os.getuid()}")
    command += [sys.executable, str(script)]
    said = []
    for _ in range(2):
        # this folder holds another copy of the package
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    where, poses = said[0].splitlines()
    assert str(installed) in where
    assert "kernels.cpu" in where
    assert len(poses) > 100
    assert said[0] == said[1]
    folder = tmp_path / f"pixloc_ros-{os.getuid()}"
    assert list(folder.rglob("cpu._optimize-*.nbi"))
    if not mounts:
        pytest.skip("this machine lets no process mount a folder: not read-only")
