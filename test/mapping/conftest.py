from __future__ import annotations

import pytest

from pixloc_ros.datasets.bag import write_bag
from pixloc_ros.datasets.rendered_room import mount, render_room
from pixloc_ros.datasets.sequence import read_sequence


@pytest.fixture(scope="session")
def drive(once):
    """Three seconds of a lap at 10 Hz, as files and as a bag."""

    def make(folder):
        render_room(folder / "room", seconds=3.0, references=4, mapped=4.0)
        write_bag(read_sequence(folder / "room"), folder / "bag", mount())

    root = once("drive", make)
    return root, read_sequence(root / "room")
