"""Patches make poses more exact, and tell when something is wrong with the camera."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.features import read_image
from pixloc_ros.localization import Localizer, LocalizerOptions, Prior, Status, View
from pixloc_ros.mapping import MapError, PixMap
from pixloc_ros.mapping.calibration import write_calibration
from pixloc_ros.mapping.editing import merge, write_part


@pytest.fixture
def frames(room):
    return [(read_image(room.sequence.images / f.name), f) for f in room.sequence.frames[1::4]]


@pytest.fixture
def copy(room, tmp_path):
    return Path(shutil.copy(room.map_file, tmp_path / "copy.pixmap.h5"))


@pytest.fixture
def older(copy):
    """As an older version made it."""
    with h5py.File(copy, "r+") as file:
        del file["observations/patch"]
    return copy


def errors(localizer, frames):
    answers = [localizer.localize(i, f.camera, Prior(f.truth)) for i, f in frames]
    assert all(answer.ok for answer in answers)
    pairs = zip(answers, frames, strict=True)
    return answers, [float(a.cam_from_map.distance(f.truth)[0]) for a, (_, f) in pairs]


def test_they_make_the_pose_more_exact(room, localizer, network):
    frames = [(read_image(room.sequence.images / f.name), f) for f in room.sequence.frames]
    answers, after = errors(localizer, frames)
    assert all(answer.statistics.patches > 100 for answer in answers)
    assert all(answer.statistics.patch_share > 0.3 for answer in answers)
    with PixMap(room.map_file) as pixmap:
        without = Localizer(pixmap, network, LocalizerOptions(patches=0))
        answers, before = errors(without, frames)
    assert all(answer.statistics.patches == 0 for answer in answers)
    assert np.mean(after) < 0.9 * np.mean(before)


def test_a_rig_is_refined_as_one(localizer, frames):
    (image, frame), (other, beside) = frames[:2]
    views = [
        View(image, frame.camera),
        View(other, beside.camera, beside.truth @ frame.truth.inverse()),
    ]
    both = localizer.localize_views(views, Prior(frame.truth))
    one = localizer.localize_views(views[:1], Prior(frame.truth))
    assert both.ok
    assert both.statistics.patches > one.statistics.patches
    assert float(both.cam_from_map.distance(frame.truth)[0]) < 0.01


def test_older_maps_keep_working(older, network, frames):
    with PixMap(older) as pixmap:
        assert not pixmap.has_patches
        assert pixmap.reference(0).patches is None
        answers, _ = errors(Localizer(pixmap, network), frames[:1])
    assert answers[0].statistics.patches == 0


def test_an_older_map_can_be_cut_and_merged(room, older, tmp_path, network, localizer, frames):
    """With images of the same place that have patches: those without count as not sought."""
    part, both = tmp_path / "part.pixmap.h5", tmp_path / "both.pixmap.h5"
    with PixMap(older) as old, PixMap(room.map_file) as new:
        everything = np.ones(len(old), bool), np.ones(old.point_count, bool)
        write_part(old, part, *everything)
        names = [f"other/{name}" for name in new.names]
        with h5py.File(shutil.copy(new.path, tmp_path / "new.pixmap.h5"), "r+") as file:
            del file["references/name"]
            file.create_dataset("references/name", data=names, dtype=h5py.string_dtype())
        with PixMap(tmp_path / "new.pixmap.h5") as renamed:
            merge([old, renamed], both)
    with PixMap(part) as pixmap:
        assert not pixmap.has_patches
    (alone, *_), _ = errors(localizer, frames[:1])
    with PixMap(both) as pixmap:
        assert pixmap.has_patches
        assert not pixmap.reference(0).patches.any()
        assert pixmap.reference(len(pixmap) - 1).patches.any()
        (answer, *_), _ = errors(Localizer(pixmap, network), frames[:1])
    assert answer.statistics.patches > 100
    assert answer.statistics.patch_share > 0.8 * alone.statistics.patch_share


def test_damaged_patches_are_said(copy):
    with h5py.File(copy, "r+") as file:
        patches = file["observations/patch"][:-1]
        del file["observations/patch"]
        file["observations/patch"] = patches
    with pytest.raises(MapError, match="damaged map \\(patches of shape"):
        PixMap(copy)


def test_where_none_is_found_alignment_has_the_last_word(localizer, frames, monkeypatch):
    image, frame = frames[0]
    flat = np.full_like(image, 128)
    monkeypatch.setattr(
        "pixloc_ros.localization.views.grey_values", lambda _: flat[..., 0].astype(np.float32)
    )
    answer = localizer.localize(image, frame.camera, Prior(frame.truth))
    assert answer.ok
    assert answer.statistics.patches == 0


@pytest.mark.parametrize("factor", [0.7, 0.85, 1.2, 1.4])
def test_a_wrong_focal_length_is_noticed(localizer, frames, factor):
    refused = 0
    for image, frame in frames:
        wrong = replace(frame.camera, focal=frame.camera.focal * factor)
        answer = localizer.localize(image, wrong)
        near = float(answer.cam_from_map.distance(frame.truth)[0]) < 0.05
        assert not answer.ok or near
        refused += "focal length seems to be" in answer.reason
    assert refused >= len(frames) // 2


def test_a_wrong_centre_is_noticed(localizer, frames):
    image, frame = frames[0]
    aside = torch.tensor([0.15 * float(frame.camera.size[0]), 0.0], dtype=torch.float64)
    wrong = replace(frame.camera, centre=frame.camera.centre + aside)
    answer = localizer.localize(image, wrong)
    assert answer.status is Status.REJECTED
    assert "principal point seems to be" in answer.reason


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_camera_on_its_side_is_found(localizer, room, network, frames, turns):
    image, frame = frames[0]
    camera, image = frame.camera, np.ascontiguousarray(np.rot90(image, turns))
    for _ in range(turns):
        camera = camera.quarter_turn()
    upright = localizer.localize(frames[0][0], frame.camera)
    answer = localizer.localize(image, camera)
    assert answer.ok, answer.reason
    # the same place; turned about the optical axis
    centre, there = (a.cam_from_map.inverse().translation for a in (answer, upright))
    assert float((centre - there).norm()) < 0.01
    _, radians = answer.cam_from_map.distance(upright.cam_from_map)
    assert float(torch.rad2deg(radians)) == pytest.approx([90, 180, 90][turns - 1], abs=0.5)
    with PixMap(room.map_file) as pixmap:
        upright_only = Localizer(pixmap, network, LocalizerOptions(turns=False))
        assert not upright_only.localize(image, camera).ok


def test_a_map_is_calibrated_in_place(copy, network, frames):
    image, frame = frames[0]

    def answer():
        with PixMap(copy) as pixmap:
            pixmap.verify()
            localizer = Localizer(pixmap, network)
            return pixmap.calibration, localizer.localize(image, frame.camera, Prior(frame.truth))

    none, before = answer()
    write_calibration(copy, (6.6, 33.0))
    factors, after = answer()
    assert none is None
    assert factors == (6.6, 33.0)
    ratio = (after.covariance / before.covariance).diagonal()
    torch.testing.assert_close(ratio, torch.tensor([4.0] * 3 + [100.0] * 3).double())


@pytest.mark.parametrize(
    "told", ["[1.0]", "[0, 1]", "[1, -1]", '["a", 1]', "nonsense", "[1, NaN]"]
)
def test_a_damaged_calibration_is_said(copy, told):
    with h5py.File(copy, "r+") as file:
        file.attrs["calibration"] = told
    with pytest.raises(MapError, match=r"copy.pixmap.h5: damaged map"):
        PixMap(copy)


def test_a_map_that_cannot_be_written_stays_as_it_is(copy, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pixloc_ros.mapping.calibration.shutil.copyfile", full)
    with pytest.raises(InputError, match="not calibrated \\(No space left on device\\)"):
        write_calibration(copy, (1.0, 1.0))
    assert [p.name for p in tmp_path.iterdir()] == ["copy.pixmap.h5"]
    with PixMap(copy) as pixmap:
        assert pixmap.calibration is None


def test_cutting_keeps_the_factors_and_merging_takes_the_least_sure(copy, room, tmp_path):
    write_calibration(copy, (2.0, 5.0))
    part = tmp_path / "part.pixmap.h5"
    with PixMap(copy) as pixmap:
        write_part(pixmap, part, np.ones(len(pixmap), bool), np.ones(pixmap.point_count, bool))
    with h5py.File(part) as file:
        assert json.loads(file.attrs["calibration"]) == [2.0, 5.0]
