"""Scattered rows are those of the whole array, and names those that were given."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pixloc_ros.mapping.hdf5_rows as hdf5_rows
from pixloc_ros.mapping.hdf5_rows import Names, read_ranges, read_rows


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.h5"
    with h5py.File(path, "w") as file:
        file["rows"] = np.arange(3000).reshape(1000, 3)
        yield file["rows"]


@given(rows=st.sets(st.integers(0, 999)), gap=st.sampled_from([1, 2**10, 2**16]))
def test_rows(dataset, rows, gap):
    before, hdf5_rows.GAP = hdf5_rows.GAP, gap
    try:
        wanted = np.array(sorted(rows), np.int64)
        found = read_rows(dataset, wanted)
    finally:
        hdf5_rows.GAP = before
    assert found.shape == (len(wanted), 3)
    assert np.array_equal(found, dataset[:][wanted])


@given(cuts=st.lists(st.integers(0, 1000), min_size=2, max_size=10))
def test_ranges(dataset, cuts):
    cuts = np.array(sorted(cuts))
    begins, ends = cuts[:-1:2], cuts[1::2]
    begins = begins[: len(ends)]
    expected = [dataset[a:b] for a, b in zip(begins, ends, strict=True)]
    assert np.array_equal(read_ranges(dataset, begins, ends), np.concatenate(expected))


@given(texts=st.lists(st.text(max_size=8), unique=True, max_size=20))
def test_names(texts):
    names = Names([text.encode("utf-8", "surrogatepass") for text in texts if _plain(text)])
    texts = [text for text in texts if _plain(text)]
    assert list(names) == texts
    assert names[1:] == texts[1:]
    for number, text in enumerate(texts):
        assert names[number] == names[number - len(texts)] == text
        assert names.find(text) == number
    assert names.find("not one of them, since it is too long") is None
    with pytest.raises(IndexError):
        names[len(texts)]


def _plain(text):
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
