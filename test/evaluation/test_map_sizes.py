"""What a map of a larger place costs is measured in one that holds the given map."""

from __future__ import annotations

import json

import pytest
import torch

from pixloc_ros.cli.main import main
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.map_sizes import grow
from pixloc_ros.mapping import PixMap


def test_a_grown_map_holds_the_given_one(room, tmp_path):
    with PixMap(room.map_file) as pixmap:
        first = grow(pixmap, 50, tmp_path / "grown.pixmap.h5")
        with PixMap(tmp_path / "grown.pixmap.h5") as grown:
            assert len(grown) == 64
            assert first == 32
            assert grown.point_count == 4 * pixmap.point_count
            for number in (0, 7):
                ours, theirs = pixmap.reference(number), grown.reference(first + number)
                assert torch.equal(ours.xyz, theirs.xyz)
                assert torch.equal(ours.features[2], theirs.features[2])
                # copies stand elsewhere, and see their own points as the original does
                copy = grown.reference(number)
                one = pixmap.camera(number).project(pixmap.pose(number).transform(ours.xyz))
                other = grown.camera(number).project(grown.pose(number).transform(copy.xyz))
                assert torch.allclose(one[0], other[0], atol=1e-6)
                assert (copy.xyz - ours.xyz).abs().max() >= 100
        with pytest.raises(InputError, match="does not grow to 16"):
            grow(pixmap, 16, tmp_path / "b.pixmap.h5")


def test_bench_of_sizes(room, tmp_path, capsys):
    image = (
        room.root
        / "images"
        / "db"
        / sorted(p.name for p in (room.root / "images/db").iterdir())[0]
    )
    command = ["speed", "--map", room.map_file, "--image", image, "--sizes", "8,64"]
    command += ["--repeats", "1", "--json", tmp_path / "b.json", "--plot", tmp_path / "b.png"]
    assert main([str(a) for a in command]) == 0
    costs = json.loads((tmp_path / "b.json").read_text())["sizes"]
    assert [cost["references"] for cost in costs] == [8, 64]
    for cost in costs:
        assert cost["found"]
        assert cost["recall"] == 1.0
        assert cost["prior_ms"] > 0
        assert cost["first_ms"] > 0
    assert (tmp_path / "b.png").stat().st_size > 10_000
    command[command.index("8,64")] = "x"
    assert main([str(a) for a in command]) == 1
    assert "--sizes x: numbers of references" in capsys.readouterr().err
