"""What every test shares: determinism and the place of the reference data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

SHARED = Path(os.environ.get("PIXLOC_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder of numbers recorded from the original implementation."""
    folder = SHARED / "parity"
    if not folder.is_dir():
        pytest.skip(f"the recorded reference numbers are not at {folder} (set PIXLOC_SHARED)")
    return folder


@pytest.fixture(scope="session")
def packs() -> Path:
    """Folder of real image packs with ground truth."""
    folder = SHARED / "packs"
    if not folder.is_dir():
        pytest.skip(f"the packs of real images are not at {folder} (set PIXLOC_SHARED)")
    return folder
