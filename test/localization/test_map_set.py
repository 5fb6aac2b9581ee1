"""Among several maps the right one is found, and two that look alike are told."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from pixloc_ros.cli.main import main
from pixloc_ros.features import read_image
from pixloc_ros.localization import Localizer, MapSet, Prior, Status, View
from pixloc_ros.mapping import MapError, PixMap, build_map, read_colmap


def views(room, number):
    frame = room.sequence.frames[number]
    return [View(read_image(room.sequence.images / frame.name), frame.camera)], frame


def test_each_room_is_found_in_its_map(room, other_room, two_maps, network):
    with MapSet(two_maps, network) as map_set:
        assert [submap.name for submap in map_set.submaps] == ["other", "room"]
        assert map_set.references == 32
        one, two = (submap.localizer for submap in map_set.submaps)
        assert one.extract is two.extract
        assert one.store.features[0] is two.store.features[0]
        for place, name, frame in ((room, "room", "here"), (other_room, "other", "there")):
            for number in (1, 6):
                seen, truth = views(place, number)
                answer = map_set.localize_views(seen)
                assert answer.ok, answer.reason
                assert (answer.map, answer.frame) == (name, frame)
                assert map_set.submap.name == name
                assert float(answer.cam_from_map.distance(truth.truth)[0]) < 0.03
                # a prior in the frame of this map; in the other's nothing is found
                after = map_set.localize_views(seen, Prior(truth.truth), frame)
                assert after.ok
                assert after.from_prior
                wrong = {"here": "there", "there": "here"}[frame]
                assert not map_set.localize_views(seen, Prior(truth.truth), wrong).ok


def test_one_map_answers_as_its_localizer_does(room, network):
    seen, _ = views(room, 3)
    with MapSet(room.map_file, network, frame="hall") as map_set, PixMap(room.map_file) as pixmap:
        answer = map_set.localize_views(seen)
        alone = Localizer(pixmap, network).localize_views(seen)
        assert np.array_equal(answer.cam_from_map.matrix(), alone.cam_from_map.matrix())
        assert (answer.map, answer.frame) == ("room", "hall")


def test_floors_that_look_alike_are_not_told_apart(room, network, tmp_path):
    for name in ("first", "second"):
        shutil.copy(room.map_file, tmp_path / f"{name}.pixmap.h5")
    seen, truth = views(room, 3)
    with MapSet(tmp_path, network) as map_set:
        answer = map_set.localize_views(seen)
        assert answer.status is Status.REJECTED
        assert "it is in first as well as in second" in answer.reason
        # who knows where it is goes on
        assert map_set.localize_views(seen, Prior(truth.truth), "map").ok


def test_a_prior_holds_in_all_maps_of_its_frame(room, other_room, two_maps, network):
    (two_maps / "frames.yaml").unlink()
    with MapSet(two_maps, network) as map_set:
        assert map_set.frames == {"map"}
        for place in (room, other_room):
            seen, truth = views(place, 2)
            answer = map_set.localize_views(seen, Prior(truth.truth), "map")
            assert answer.ok, answer.reason
            assert answer.from_prior
            assert answer.map == place.map_file.name.removesuffix(".pixmap.h5")


def test_bad_images_and_other_levels(room, two_maps, network, tmp_path):
    levels = (room.root / "sparse", room.root / "images", tmp_path / "maps" / "few.pixmap.h5")
    with PixMap(room.map_file) as pixmap:
        pyramid = pixmap.header.levels[1:]
    build_map(read_colmap(levels[0]), levels[1], levels[2], network, pyramid)
    (two_maps / "room.pixmap.h5").unlink()
    (two_maps / "frames.yaml").unlink()
    with MapSet(two_maps, network) as map_set:
        seen, _ = views(room, 4)
        assert map_set.localize_views(seen).map == "few"
        bad = [View(np.zeros((3, 3), np.float32), seen[0].camera)]
        assert map_set.localize_views(bad).status is Status.BAD_INPUT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing.pixmap.h5: x", "nothing.pixmap.h5: no such map"),
        ("[1, 2]", "expected lines"),
        ("room.pixmap.h5: 3", "3 is no name of a frame"),
        ("a: [", "not YAML"),
    ],
)
def test_frames_that_cannot_be(two_maps, network, text, message):
    (two_maps / "frames.yaml").write_text(text)
    with pytest.raises(MapError, match=message):
        MapSet(two_maps, network)


def test_a_folder_without_maps(tmp_path, network):
    with pytest.raises(MapError, match="a folder without any map"):
        MapSet(tmp_path, network)


def test_localize_says_which(room, two_maps, tmp_path, capsys):
    arguments = ["localize", "--map", two_maps, "--images", room.sequence.images]
    frame = room.sequence.frames[0]
    queries = tmp_path / "queries.txt"
    queries.write_text(f"{frame.name} PINHOLE 640 480 520 520 320 240\n")
    arguments += ["--queries", queries, "--output", tmp_path / "poses.txt"]
    report = tmp_path / "report.json"
    assert main([str(a) for a in [*arguments, "--report", report]]) == 0
    assert json.loads(report.read_text())[frame.name]["map"] == "room"
    pairs = tmp_path / "pairs.txt"
    pairs.write_text(f"{frame.name} db/000.png\n")
    assert main([str(a) for a in [*arguments, "--pairs", pairs]]) == 1
    assert "2 maps; --pairs" in capsys.readouterr().err
