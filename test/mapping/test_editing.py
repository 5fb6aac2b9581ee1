"""Maps out of maps."""

from __future__ import annotations

import json

import h5py
import numpy as np
import torch

from pixloc_ros.cli.main import main
from pixloc_ros.features import read_image
from pixloc_ros.localization import Localizer
from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.editing import merge, usefulness, write_part


def edit(capsys, *arguments):
    code = main([str(a) for a in ["edit_map", *arguments]])
    said = capsys.readouterr()
    return code, said.out + said.err


def errors(path, room, network):
    with PixMap(path) as pixmap:
        localizer = Localizer(pixmap, network)
        for frame in room.sequence.frames[::4]:
            result = localizer.localize(
                read_image(room.sequence.images / frame.name), frame.camera
            )
            yield float(result.cam_from_map.distance(frame.truth)[0]) if result.ok else np.inf


def test_everything_is_the_same_map(room, tmp_path, capsys):
    code, said = edit(capsys, room.map_file, "--output", tmp_path / "a.pixmap.h5")
    assert code == 0
    assert "16 references" in said
    with PixMap(room.map_file) as one, PixMap(tmp_path / "a.pixmap.h5") as two:
        two.verify()
        assert one.header == two.header
        assert np.array_equal(one.model.observed, two.model.observed)
        a, b, every = one.reference(5), two.reference(5), np.arange(len(one))
        for x, y in zip((*a.features, *a.confidence), (*b.features, *b.confidence), strict=True):
            assert torch.equal(x, y)
        assert np.array_equal(one.descriptor_rows(every), two.descriptor_rows(every))
        assert np.array_equal(one.statistics[1].matching, two.statistics[1].matching)


def test_fewer_points_that_help_most(room, network, tmp_path, capsys):
    sizes = []
    for share in (1.0, 0.5, 0.2):
        path = tmp_path / f"{share}.pixmap.h5"
        assert edit(capsys, room.map_file, "--keep-points", share, "--output", path)[0] == 0
        with PixMap(path) as pixmap:
            pixmap.verify()
            sizes.append(len(pixmap.points))
        assert max(errors(path, room, network)) < 0.03
    with PixMap(room.map_file) as pixmap:
        assert sizes == [round(s * len(pixmap.points)) for s in (1.0, 0.5, 0.2)]
        value = usefulness(pixmap)
        assert value.min() > 0
        kept = value > np.quantile(value, 0.8)
        # those that are kept are seen by more references, and lie all over the images
        assert pixmap.model.track_length[kept].mean() > pixmap.model.track_length.mean()
        seen = pixmap.reference(3)
        camera = pixmap.cameras[0]
        pixels, _ = camera.project(pixmap.poses[3].transform(pixmap.points[seen.points]))
        cells = (pixels / camera.size * 4).long()
        every = set(map(tuple, cells.tolist()))
        some = set(map(tuple, cells[torch.from_numpy(kept[seen.points.numpy()])].tolist()))
        assert len(some) >= 0.6 * len(every)


def test_references_go_and_come_back(room, network, tmp_path, capsys):
    with PixMap(room.map_file) as pixmap:
        names = pixmap.model.names
    few, rest, both = (tmp_path / f"{n}.pixmap.h5" for n in ("few", "rest", "both"))
    assert edit(capsys, room.map_file, "--remove", *names[:4], "--output", rest)[0] == 0
    assert edit(capsys, room.map_file, "--remove", *names[4:], "--output", few)[0] == 0
    with PixMap(rest) as pixmap:
        assert pixmap.model.names == names[4:]
        pixmap.verify()
    code, said = edit(capsys, rest, "--add", few, "--output", both)
    assert code == 0
    assert "16 references" in said
    with PixMap(both) as pixmap, PixMap(room.map_file) as whole:
        pixmap.verify()
        assert set(pixmap.model.names) == set(names)
        here, there = pixmap.model.names.index(names[2]), names.index(names[2])
        assert torch.allclose(pixmap.poses[here].matrix(), whole.poses[there].matrix())
        one, two = pixmap.reference(here), whole.reference(there)
        assert torch.equal(one.features[-1], two.features[-1])
        assert torch.allclose(pixmap.points[one.points], whole.points[two.points])
    assert max(errors(both, room, network)) < 0.03
    assert not [p for p in tmp_path.iterdir() if p.name not in {f.name for f in (few, rest, both)}]


def test_provenance_names_maps_but_no_files_in_between(room, tmp_path):
    half = np.arange(16) < 8
    with PixMap(room.map_file) as whole:
        everything = np.ones(whole.point_count, bool)
        write_part(whole, tmp_path / "one.pixmap.h5", half, everything)
        write_part(whole, tmp_path / ".other.part.pixmap.h5", ~half, everything)
    with (
        PixMap(tmp_path / "one.pixmap.h5") as one,
        PixMap(tmp_path / ".other.part.pixmap.h5") as other,
    ):
        merge([one, other], tmp_path / "both.pixmap.h5")
    with PixMap(tmp_path / "both.pixmap.h5") as both:
        named, hidden = both.provenance[0]["maps"]
    assert named["map"] == "one.pixmap.h5"
    assert "map" not in hidden
    assert hidden["references"] == 8


def test_mistakes_get_one_line(room, tmp_path, capsys):
    output = ["--output", tmp_path / "a.pixmap.h5"]
    with PixMap(room.map_file) as pixmap:
        names = pixmap.model.names
    other = tmp_path / "other.pixmap.h5"
    other.write_bytes(room.map_file.read_bytes())
    with h5py.File(other, "a") as file:
        header = json.loads(file.attrs["header"])
        file.attrs["header"] = json.dumps({**header, "weights_hash": "0" * 64})
    for more, message in (
        (["--keep-points", "0"], "a share above 0"),
        (["--remove", "nobody.jpg"], "no such reference"),
        (["--remove", *names], "nothing would be left"),
        (["--add", room.map_file], f"is in {room.map_file}"),
        (["--add", other], "another network"),
        (["--add", "/nowhere.pixmap.h5"], "no such map file"),
    ):
        code, said = edit(capsys, room.map_file, *more, *output)
        assert code == 1
        assert message in said
        assert "Traceback" not in said
    code, said = edit(capsys, room.map_file, "--output", room.map_file)
    assert code == 1
    assert "is also an input" in said
    assert [p.name for p in tmp_path.iterdir()] == ["other.pixmap.h5"]
