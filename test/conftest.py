"""What every test shares: determinism and the place of the reference data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from pixloc_ros.datasets.rendered_room import render_room
from pixloc_ros.datasets.sequence import Sequence, read_sequence
from pixloc_ros.features import open_network
from pixloc_ros.localization import Localizer
from pixloc_ros.mapping import PixMap, build_map, read_colmap

if not torch.cuda.is_available():
    # before anything imports Triton: its kernels then run in its interpreter
    os.environ.setdefault("TRITON_INTERPRET", "1")

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


@pytest.fixture(scope="session")
def network():
    """The default network."""
    return open_network(None)


@dataclass(frozen=True)
class Room:
    """A small rendered room with its map."""

    root: Path
    map_file: Path
    sequence: Sequence


@pytest.fixture(scope="session")
def room(tmp_path_factory, network) -> Room:
    root = tmp_path_factory.mktemp("data") / "room"
    render_room(root, seconds=1.0, references=16, mapped=8.0)
    map_file = root / "room.pixmap.h5"
    build_map(read_colmap(root / "sparse"), root / "images", map_file, network)
    return Room(root, map_file, read_sequence(root))


@pytest.fixture(scope="session")
def other_room(tmp_path_factory, network) -> Room:
    """Other furniture, other pictures."""
    root = tmp_path_factory.mktemp("data") / "other"
    render_room(root, seconds=1.0, references=16, mapped=8.0, seed=11)
    map_file = root / "other.pixmap.h5"
    build_map(read_colmap(root / "sparse"), root / "images", map_file, network)
    return Room(root, map_file, read_sequence(root))


@pytest.fixture
def two_maps(room, other_room, tmp_path) -> Path:
    """A folder with the maps of both, each in a frame of its own."""
    folder = tmp_path / "maps"
    folder.mkdir()
    for each in (room, other_room):
        (folder / each.map_file.name).symlink_to(each.map_file)
    (folder / "frames.yaml").write_text("room.pixmap.h5: here\nother.pixmap.h5: there\n")
    return folder


@pytest.fixture(scope="session")
def localizer(room, network):
    with PixMap(room.map_file) as pixmap:
        yield Localizer(pixmap, network)
