"""Places are told apart, whatever the view and the roll of the camera."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest
import torch

from pixloc_ros.features import Extractor, PyramidLevel, learn_places, read_image
from pixloc_ros.features.places import changed_views
from pixloc_ros.mapping import MapError, PixMap, build_map
from pixloc_ros.mapping.editing import merge, write_part
from pixloc_ros.mapping.sparse_model import subset


@pytest.fixture(scope="module")
def images(room):
    with PixMap(room.map_file) as pixmap:
        return [read_image(room.root / "images" / name) for name in pixmap.names]


@pytest.fixture(scope="module")
def extract(network):
    return Extractor(network, [PyramidLevel(320, 2)])


@pytest.fixture(scope="module")
def model(images, extract):
    return learn_places(images, extract)


def described(model, extract, images):
    with torch.no_grad():
        return torch.stack([model.describe(extract(image)) for image in images])


def found(known, asked):
    """How often the same image is among the first three of the others."""
    best = (asked @ known.T).topk(3).indices
    return float((best == torch.arange(len(asked))[:, None]).any(-1).double().mean())


def test_a_description_has_unit_norm(model, extract, images):
    known = described(model, extract, images[:4])
    torch.testing.assert_close(known.norm(dim=-1), torch.ones(4))
    assert found(known, known) == 1.0


@pytest.mark.parametrize("view", [0, 1])
def test_narrower_and_rolled_views_are_found_better_than_by_the_network_alone(
    model, extract, images, view
):
    """With half of the images the model is learned, with the others it is asked."""
    half = learn_places(images[::2], extract)
    views = [changed_views(image)[view] for image in images]
    ours = found(described(half, extract, images), described(half, extract, views))
    with torch.no_grad():
        plain, other = (
            torch.stack([extract(image).descriptor for image in some]) for some in (images, views)
        )
    mean = plain.mean(0)
    normalize = torch.nn.functional.normalize
    alone = found(normalize(plain - mean, dim=-1), normalize(other - mean, dim=-1))
    assert ours >= alone
    assert ours > 0.6


def test_learning_again_is_the_same(images, extract, model):
    again = learn_places(images, extract)
    for one, other in zip(vars(model).values(), vars(again).values(), strict=True):
        assert torch.equal(one, other)


def test_a_rolled_view_has_no_black_corners(images):
    _, rolled = changed_views(np.full_like(images[0], 200))
    assert int(rolled.min()) > 190


def test_the_map_keeps_the_model_and_what_it_says(room, model, extract, images):
    with PixMap(room.map_file) as pixmap:
        assert pixmap.places is not None
        known = pixmap.described_rows(np.arange(len(pixmap)))
        mine = pixmap.describe(extract(images[3]))
        best = torch.from_numpy(known) @ mine
    assert int(best.argmax()) == 3
    assert float(best[3]) > 0.98


def test_a_map_of_few_images_is_searched_by_the_network_alone(room, network, tmp_path, images):
    few = tmp_path / "few.pixmap.h5"
    with PixMap(room.map_file) as pixmap:
        model = pixmap.model
        assert pixmap.places is not None
    part = subset(model, np.arange(len(model.names)) < 5, np.ones(len(model.points), bool))
    build_map(part, room.root / "images", few, network, min_track_length=2)
    with PixMap(few) as pixmap:
        assert pixmap.places is None
        assert pixmap.described_rows(np.arange(5)).shape[1] == pixmap.descriptor_width


def test_cutting_keeps_it_and_merging_only_what_is_common(room, other_room, tmp_path, network):
    half, rest, both = (tmp_path / f"{name}.pixmap.h5" for name in ("half", "rest", "both"))
    with PixMap(room.map_file) as pixmap:
        first = np.arange(len(pixmap)) < 8
        everything = np.ones(pixmap.point_count, bool)
        write_part(pixmap, half, first, everything)
        write_part(pixmap, rest, ~first, everything)
    with PixMap(half) as one, PixMap(rest) as two:
        merge([one, two], both)
    with PixMap(both) as pixmap:
        assert pixmap.places is not None
        pixmap.verify()
    mixed = tmp_path / "mixed.pixmap.h5"
    with h5py.File(shutil.copy(other_room.map_file, tmp_path / "o.pixmap.h5"), "r+") as file:
        names = [f"other/{n}" for n in file["references/name"].asstr()[:]]
        del file["references/name"]
        file.create_dataset("references/name", data=names, dtype=h5py.string_dtype())
    with PixMap(half) as one, PixMap(tmp_path / "o.pixmap.h5") as two:
        merge([one, two], mixed)
    with PixMap(mixed) as pixmap:
        assert pixmap.places is None


@pytest.mark.parametrize("name", ["references/place", "places/mean", "places/centre"])
def test_damage_is_said(room, tmp_path, name):
    path = shutil.copy(room.map_file, tmp_path / "copy.pixmap.h5")
    with h5py.File(path, "r+") as file:
        values = file[name][:-1]
        del file[name]
        file[name] = values
    with pytest.raises(MapError, match=r"copy\.pixmap\.h5: damaged map \(shape of"):
        PixMap(path)
