"""A map that is not read whole answers as a small one does."""

from __future__ import annotations

import logging
import shutil

import h5py
import numpy as np
import pytest
import torch

import pixloc_ros.mapping.approximate as approximate
import pixloc_ros.mapping.map_file as map_file
import pixloc_ros.retrieval.index as index_module
import pixloc_ros.retrieval.visibility as visibility
from pixloc_ros.evaluation.map_sizes import grow
from pixloc_ros.features import read_image
from pixloc_ros.localization import Localizer, Prior
from pixloc_ros.mapping import MapError, PixMap
from pixloc_ros.retrieval import DescriptorIndex, FileIndex, VisibilityIndex


@pytest.fixture(scope="module", autouse=True)
def _small_limits(localizer):
    """What is large in earnest, for maps of hundreds."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (approximate, index_module):
            patch.setattr(module, "EXACT", 100)
        # each part of a descriptor takes a tenth of a second to train
        patch.setattr(approximate, "NUMBERS_A_BYTE", 32)
        patch.setattr(visibility, "NEAR", 16)
        patch.setattr(map_file, "AT_ONCE", 0)
        yield


@pytest.fixture(scope="module")
def large(room, tmp_path_factory, _small_limits):
    """The room among 19 others."""
    path = tmp_path_factory.mktemp("large") / "large.pixmap.h5"
    with PixMap(room.map_file) as pixmap:
        grow(pixmap, 320, path)
    return path


def whole_map(_):
    raise AssertionError("the whole map was read")


def test_answers_as_the_small_map_does(room, network, localizer, large, monkeypatch):
    for name in ("model", "points", "poses"):
        monkeypatch.setattr(PixMap, name, property(whole_map))
    with PixMap(large) as pixmap:
        among = Localizer(pixmap, network)
        assert isinstance(among.candidates.index, FileIndex)
        for frame in room.sequence.frames[::5]:
            image = read_image(room.sequence.images / frame.name)
            for prior in (None, Prior(frame.truth)):
                alone = localizer.localize(image, frame.camera, prior)
                answer = among.localize(image, frame.camera, prior)
                assert alone.ok, alone.reason
                assert answer.ok, answer.reason
                # of other references it finds other axes, along which others are candidates
                assert float(answer.cam_from_map.distance(alone.cam_from_map)[0]) < 3e-3


def test_neighbourhoods_are_read_once(large, monkeypatch):
    with PixMap(large) as pixmap:
        read = []
        part = pixmap.part
        monkeypatch.setattr(pixmap, "part", lambda r: read.append(len(r)) or part(r))
        around = VisibilityIndex(pixmap)
        for number in (0, 0, 170, 0):
            assert around.visible_from(pixmap.pose(number), pixmap.camera(number), 1)
        assert read == [16, 16]
        # of one place all are near: the same as all of its references
        everything = VisibilityIndex(pixmap)._around(np.zeros(3)).references
        assert len(everything) == 16


def test_search_with_an_approximate_index_and_without(large, monkeypatch, caplog):
    pytest.importorskip("faiss", reason="faiss is not installed")
    with PixMap(large) as pixmap:
        descriptors = pixmap.descriptor_rows(np.arange(len(pixmap)))
        exact, fast = DescriptorIndex(torch.from_numpy(descriptors)), FileIndex(pixmap)
        assert fast.approximate
        assert not caplog.records
        monkeypatch.setattr(index_module, "faiss", lambda: None)
        monkeypatch.setattr(index_module, "BLOCK", 50)
        with caplog.at_level(logging.WARNING):
            slow = FileIndex(pixmap)
        assert "pixloc_ros[faiss]" in caplog.text
        found = 0
        for asked in torch.from_numpy(descriptors[::20]):
            numbers, cosines = exact.search(asked, 5)
            assert slow.search(asked, 5)[0] == numbers
            assert slow.search(asked, 5)[1] == pytest.approx(cosines, abs=1e-5)
            assert fast.search(asked, 5)[0][0] == numbers[0]
            found += len(set(fast.search(asked, 5)[0]) & set(numbers))
        assert found >= 0.9 * 5 * 16
        with pytest.raises(ValueError, match="4 numbers"):
            fast.search(torch.zeros(4), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["observations/point"].__setitem__(0, 10**8), "an observation of no point"),
        (lambda f: f["points/xyz"].__setitem__((0, 0), np.nan), "not finite"),
    ],
)
def test_damage_is_noticed_where_it_is_read(large, tmp_path, change, message):
    damaged = shutil.copy(large, tmp_path)
    with h5py.File(damaged, "r+") as file:
        change(file)
    with PixMap(damaged) as pixmap:
        pixmap.reference(200)
        with pytest.raises(MapError, match=message):
            pixmap.reference(0)
        with pytest.raises(MapError, match=message):
            pixmap.part(np.arange(3))
        with pytest.raises(MapError, match=message):
            pixmap.verify()
