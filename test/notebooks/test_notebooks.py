"""Every notebook runs from its first cell to its last, on data that it makes."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks are read by nbformat")
nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient")

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all: the room is rendered once."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.parametrize("name", NAMES)
def test_runs(name, folder, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent)]))
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # none are committed
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
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
