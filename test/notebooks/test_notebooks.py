"""Every notebook runs from its first cell to its last, on data that it makes."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks are read by nbformat")
nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient")
jupyter_client = pytest.importorskip("jupyter_client", reason="notebooks are run in its kernels")

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all: the room is rendered once."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def kernel(folder):
    """One for all, too: torch is imported once. Each notebook begins without variables."""
    manager = jupyter_client.KernelManager()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parent)}
    manager.start_kernel(env=environment, cwd=str(folder))
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("name", NAMES)
def test_runs(name, folder, kernel):
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # none are committed
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    nbclient.NotebookClient(notebook, km=kernel, timeout=300).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert any("image/png" in out.get("data", {}) for out in outputs)
    if name == "localize.ipynb":
        said = "".join(out.get("text", "") for out in outputs)
        assert "success" in said
        film = cv2.VideoCapture(str(folder / "steps.mp4"))
        count = int(film.get(cv2.CAP_PROP_FRAME_COUNT))
        assert f"{count} frames in steps.mp4" in said
        assert count > 3


def test_all_of_them_are_there():
    assert len(NAMES) == 5
