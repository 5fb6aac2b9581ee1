"""What every test shares: determinism and the place of the reference data."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from pixloc_ros.datasets.rendered_room import render_room
from pixloc_ros.datasets.sequence import Sequence, read_sequence
from pixloc_ros.features import open_network
from pixloc_ros.localization import Localizer
from pixloc_ros.mapping import PixMap, build_map, read_colmap

if not torch.cuda.is_available():
    # before anything imports Triton: its kernels then run in its interpreter
    os.environ.setdefault("TRITON_INTERPRET", "1")

with suppress(ImportError):  # the few tests that need it are skipped without
    import hypothesis

    # the first call of an operation may take longer than the default deadline
    hypothesis.settings.register_profile("patient", deadline=None)
    hypothesis.settings.load_profile("patient")

SLOW = (
    *("test_trouble", "test_sfm", "test_benchmark", "test_lifecycle", "test_map_sources"),
    *("test_trainer", "test_node", "test_cuda", "test_ray_pool", "test_cli", "test_published"),
    *("test_viewer", "test_notebooks", "test_map", "test_patches", "test_alignment"),
    *("test_replay", "test_localizer", "test_cpu", "test_examples", "test_packs", "test_player"),
    *("test_map_set", "test_frames", "test_map_quality", "test_original_pixloc"),
)
"""Files that take longest, in this order; begun with, they do not keep one process busy at the
end."""


def pytest_collection_modifyitems(items):
    items.sort(
        key=lambda item: SLOW.index(item.path.stem) if item.path.stem in SLOW else len(SLOW)
    )


SHARED = Path(os.environ.get("PIXLOC_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _prepared_processes():
    """A new interpreter imports torch and numba for seconds. Here processes are copies of one that
    has; that the package starts new ones is tested where its commands are run.
    """
    get = multiprocessing.get_context
    get("forkserver").set_forkserver_preload(["pixloc_ros.localization.map_set_server", "numba"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            multiprocessing,
            "get_context",
            lambda method=None: get("forkserver" if method == "spawn" else method),
        )
        yield


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
def once(tmp_path_factory, request):
    """Makes a folder of files once for all processes of a run: (name, what makes it) -> folder.

    Tests only read what is in it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder = shared / name
        with FileLock(shared / f"{name}.lock"):
            if not folder.is_dir():
                making = shared / f"{name}.making"
                making.mkdir()
                make(making)
                making.rename(folder)
        return folder

    return made


def _rendered(once, network, name: str, seed: int) -> Room:
    def make(folder: Path) -> None:
        render_room(folder / "room", seconds=1.0, references=16, mapped=8.0, seed=seed)
        root = folder / "room"
        map_file = root / f"{name}.pixmap.h5"
        build_map(read_colmap(root / "sparse"), root / "images", map_file, network)

    root = once(name, make) / "room"
    return Room(root, root / f"{name}.pixmap.h5", read_sequence(root))


@pytest.fixture(scope="session")
def room(once, network) -> Room:
    return _rendered(once, network, "room", 7)


@pytest.fixture(scope="session")
def other_room(once, network) -> Room:
    """Other furniture, other pictures."""
    return _rendered(once, network, "other", 11)


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
