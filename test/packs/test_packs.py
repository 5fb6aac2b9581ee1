"""Real photographs through the offline commands; nothing here is tuned on them."""

from __future__ import annotations

import json

import pytest

from pixloc_ros.cli.main import main
from pixloc_ros.datasets import read_poses
from pixloc_ros.evaluation import PoseErrors

# scene scale: what counts as a wrong pose is a few percent of the distance to what is seen
PACKS = {"fox_object": (0.05, 2.0, 5), "strecha_castle": (1.0, 2.0, 8)}


@pytest.mark.parametrize("name", PACKS)
def test_most_queries_are_found_and_none_is_wrong(packs, tmp_path, name):
    metres, degrees, fewest = PACKS[name]
    pack = packs / name
    map_file, output, report = (tmp_path / n for n in ("m.pixmap.h5", "poses.txt", "r.json"))
    images = pack / "images"
    build = ["build_map", "--colmap", pack / "sparse", "--images", images, "--output", map_file]
    build += ["--no-check"]
    queries = pack / "queries_with_intrinsics.txt"
    localize = ["localize", "--map", map_file, "--images", images, "--queries", queries]
    assert main([str(a) for a in build]) == 0
    assert main([str(a) for a in [*localize, "--output", output, "--report", report]]) == 0
    truth, results = read_poses(pack / "gt_poses.txt"), read_poses(output)
    assert len(results) >= fewest
    errors = PoseErrors.of({name: truth[name] for name in results}, results)
    assert errors.metres.max() < metres
    assert errors.degrees.max() < degrees
    told = json.loads(report.read_text())
    assert all(told[name]["reason"] for name in truth)
