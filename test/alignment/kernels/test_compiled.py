"""Kernels are kept wherever something can be written, and nowhere that others may write."""

from __future__ import annotations

import os
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


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd / &&
HOME=/proc/none XDG_CACHE_HOME=/proc/none PYTHONPATH="$1" "$2" -c "
import torch
from pixloc_ros.alignment.kernels import backend
print(backend.__file__, backend.fused(torch.device('cpu')))"
"""


def test_a_read_only_installation_without_a_home(tmp_path):
    """For real, where this machine lets a process mount."""
    installed = tmp_path / "installed"
    command = f"cp -r {Path(pixloc_ros.__file__).parent} {installed}/pixloc_ros"
    installed.mkdir()
    subprocess.run(command, shell=True, check=True)
    subprocess.run(f"find {installed} -name __pycache__ | xargs rm -rf", shell=True, check=True)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(installed), sys.executable],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    if (done.returncode and "unshare" in done.stderr) or "mount:" in done.stderr:
        pytest.skip("this machine lets no process mount a folder")
    assert str(installed) in done.stdout
    assert "kernels.cpu" in done.stdout, done.stderr
    folder = tmp_path / f"pixloc_ros-{os.getuid()}"
    assert list(folder.rglob("*.nbi"))
