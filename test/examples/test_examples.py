"""Every example runs, on data that is made here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pixloc_ros
from pixloc_ros.datasets import read_queries

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples"


def run(name, *arguments):
    done = subprocess.run(
        [sys.executable, str(FOLDER / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def queries(room):
    return list(read_queries(room.root / "queries_with_intrinsics.txt").items())


def test_localize_image(room, queries):
    name, camera = queries[0]
    model, params = camera.colmap()
    size = [int(v) for v in camera.size.tolist()]
    out = run(
        "localize_image.py", room.map_file, room.root / "images" / name, model, *size, *params
    )
    assert out.startswith("success")
    truth = room.sequence.frames[0].truth.inverse().translation
    told = [float(v) for v in out.splitlines()[1].split()[-3:]]
    assert told == pytest.approx(truth.tolist(), abs=0.05)


def test_localize_batch(room, queries, tmp_path):
    few = tmp_path / "queries.txt"
    lines = (room.root / "queries_with_intrinsics.txt").read_text().splitlines()
    few.write_text("\n".join([line for line in lines if line and line[0] != "#"][:4]) + "\n")
    out = run("localize_batch.py", room.map_file, room.root / "images", few)
    assert "{'success': 4}" in out
    assert len(out.splitlines()) == 5


def test_own_network(room, tmp_path):
    model, images = room.root / "sparse", room.root / "images"
    with pixloc_ros.PixMap(room.map_file) as pixmap:
        query = images / pixmap.names[len(pixmap) // 2]
    out = run("own_network.py", model, images, tmp_path / "own.pixmap.h5", query)
    assert "references=16" in out
    assert out.splitlines()[-1].startswith("success")


def test_poses_and_cameras():
    assert "visible: [True, False]" in run("poses_and_cameras.py")


def test_the_launch_file_describes_both():
    pytest.importorskip("launch_ros", reason="launch_ros comes with a distribution of ROS")
    path = FOLDER / "with_camera.launch.py"
    spec = importlib.util.spec_from_file_location("with_camera", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert len(module.generate_launch_description().entities) == 3


def test_no_example_is_forgotten():
    tested = Path(__file__).read_text()
    assert all(path.name.removesuffix(".py") in tested for path in FOLDER.glob("*.py"))


def test_the_public_names_are_there_and_what_they_were():
    assert {*pixloc_ros._HOME, "__version__"} == set(pixloc_ros.__all__)
    for name in pixloc_ros.__all__:
        assert getattr(pixloc_ros, name) is not None
    assert pixloc_ros.Localizer is importlib.import_module("pixloc_ros.localization").Localizer
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = pixloc_ros.Nothing


def test_importing_the_package_imports_no_torch():
    code = "import pixloc_ros, sys; print('torch' in sys.modules, len(pixloc_ros.__all__))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.startswith("False")
