"""What is asked for is there, whatever was read before, in bounded memory."""

from __future__ import annotations

import pytest
import torch

from pixloc_ros.mapping import FeatureStore, PixMap
from pixloc_ros.mapping.feature_store import take

CPU = torch.device("cpu")


@pytest.fixture
def pixmap(room):
    with PixMap(room.map_file) as opened:
        yield opened


def check(store, pixmap, references):
    for reference, first in zip(references, store.rows(references), strict=True):
        stored = pixmap.reference(reference)
        rows = torch.arange(first, first + len(stored.points))
        for level, features in enumerate(stored.features):
            assert torch.equal(take(store.features[level], rows), features.float())
            kept = store.confidence[level][rows]
            assert torch.equal(kept, stored.confidence[level])


def test_holds_the_whole_map_where_there_is_room(pixmap):
    store = FeatureStore(pixmap, CPU, 512.0, together=2)
    everything = list(range(len(pixmap)))
    check(store, pixmap, everything)
    first = store.rows(everything)
    assert store.rows(everything[::-1]) == first[::-1]


def test_memory_is_bounded_and_what_is_asked_for_together_is_there(pixmap):
    store = FeatureStore(pixmap, CPU, 1e-6, together=3)
    most = 2 * 3 * int(pixmap.observation_counts.max())
    assert store.capacity == most < int(pixmap.observation_counts.sum())
    before = [t.data_ptr() for t in store.features]
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        check(store, pixmap, torch.randperm(len(pixmap), generator=generator)[:3].tolist())
    assert [t.data_ptr() for t in store.features] == before


def test_maps_share_tables(room, other_room):
    with PixMap(room.map_file) as one, PixMap(other_room.map_file) as two:
        first = FeatureStore(one, CPU, 512.0, together=2, others=[two])
        second = first.beside(two)
        assert first.capacity == one.observation_count + two.observation_count
        tight = FeatureStore(one, CPU, 1e-6, together=2, others=[two])
        for stores in ((first, second), (tight, tight.beside(two))):
            for numbers in ([0, 1], [0, 5], [1, 0], [7, 3], [0, 1]):
                for store, pixmap in zip(stores, (one, two), strict=True):
                    check(store, pixmap, numbers)
        assert first.features[0] is second.features[0]


def test_reads_a_reference_once_while_it_is_held(pixmap, monkeypatch):
    read = []
    original = PixMap.reference
    monkeypatch.setattr(
        PixMap, "reference", lambda self, index: read.append(index) or original(self, index)
    )
    store = FeatureStore(pixmap, CPU, 512.0, together=2)
    for wanted in ([0, 1], [1, 2], [2, 0, 2]):
        store.rows(wanted)
    assert read == [0, 1, 2]
