from __future__ import annotations

import pytest

from pixloc_ros.datasets.bag import write_bag
from pixloc_ros.datasets.rendered_room import mount, render_room
from pixloc_ros.datasets.sequence import read_sequence


@pytest.fixture(scope="package")
def drive(tmp_path_factory):
    """Three seconds of a lap at 10 Hz, as files and as a bag."""
    root = tmp_path_factory.mktemp("drive")
    render_room(root / "room", seconds=3.0, references=4, mapped=4.0)
    sequence = read_sequence(root / "room")
    write_bag(sequence, root / "bag", mount())
    return root, sequence
