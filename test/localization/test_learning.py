"""Drives through a room of which a part has changed."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from pixloc_ros.features import read_image
from pixloc_ros.localization import MapSet, Prior, View, learning
from pixloc_ros.localization.ageing import judge_points
from pixloc_ros.localization.learning import SAME_VIEW, Learner
from pixloc_ros.localization.session_fits import LEAST
from pixloc_ros.mapping.health import MapHealth, health_path
from pixloc_ros.mapping.sessions import Session, Sessions

CHANGED = 0.2
"""Share of the image, from the left, where something else hangs now."""


def changed(image):
    noise = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
    width = int(CHANGED * image.shape[1])
    patch = np.kron(noise, np.ones((16, 16, 1), np.uint8))[: image.shape[0], :width]
    return np.concatenate([patch, image[:, width:]], 1)


@pytest.fixture
def place(room, network, tmp_path):
    file = tmp_path / "room.pixmap.h5"
    shutil.copy(room.map_file, file)
    with MapSet(file, network) as maps:
        yield maps, room.sequence.frames[2], room.sequence.images


def drive(maps, learner, image, frame, fixes=8, apart=SAME_VIEW):
    views = [View(image, frame.camera)]
    answer = maps.localize_views(views, Prior(frame.truth))
    assert answer.ok, answer.reason
    for number in range(fixes):
        learner.add(answer, views, number * apart)
    return answer


def test_what_is_gone_is_left_out(place):
    maps, frame, images = place
    image = read_image(images / frame.name)
    learner = Learner(maps, "adapt", pytest.fail)
    before = drive(maps, learner, changed(image), frame).reprojections[0]
    learner.close()
    pixmap = maps.submap.localizer.map
    with MapHealth(pixmap, health_path(pixmap.path)) as health:
        points = health.points()
    left = before.pixels[:, 0] < CHANGED * image.shape[1] - 20
    right = before.pixels[:, 0] > CHANGED * image.shape[1] + 20
    assert points.gone[before.points[left]].mean() > 0.5
    assert points.gone[before.points[right]].mean() < 0.05
    # whoever opens the map next goes on without
    again = Learner(maps, "adapt", pytest.fail)
    after = drive(maps, again, changed(image), frame, fixes=0)
    again.close()
    used = after.reprojections[0].points
    assert len(used) > 100
    assert not points.gone[used].any()
    metres, _ = after.cam_from_map.distance(frame.truth)
    assert float(metres) < 0.01


def test_what_is_only_observed_changes_nothing(place):
    maps, frame, images = place
    image = read_image(images / frame.name)
    learner = Learner(maps, "observe", pytest.fail)
    before = drive(maps, learner, changed(image), frame)
    learner.close()
    again = Learner(maps, "observe", pytest.fail)
    after = drive(maps, again, changed(image), frame, fixes=0)
    again.close()
    assert (after.cam_from_map.matrix() == before.cam_from_map.matrix()).all()


def test_a_place_as_it_was_loses_nothing(place):
    maps, frame, images = place
    learner = Learner(maps, "adapt", pytest.fail)
    drive(maps, learner, read_image(images / frame.name), frame)
    learner.close()
    pixmap = maps.submap.localizer.map
    with MapHealth(pixmap, health_path(pixmap.path)) as health:
        points = health.points()
        assert health.frames() == 8
    assert (points.judged > 0).sum() > 200
    assert points.gone.mean() < 0.01


def test_a_map_of_which_too_much_is_gone_is_used_whole(place, monkeypatch):
    """Also by a robot that went on without some of it before."""
    maps, frame, images = place
    image = changed(read_image(images / frame.name))
    warned = []
    learner = Learner(maps, "adapt", warned.append)
    whole = drive(maps, learner, image, frame).reprojections[0].points
    learner.look_again()
    without = drive(maps, learner, image, frame, fixes=0).reprojections[0].points
    assert set(whole) - set(without)
    assert not warned
    monkeypatch.setattr(learning, "MOST_GONE", 0.0)
    learner.look_again()
    again = drive(maps, learner, image, frame, fixes=0).reprojections[0].points
    learner.close()
    assert set(again) == set(whole)
    assert "are gone: build it again" in warned[0]


def test_who_stands_somewhere_says_it_once(place):
    """A fork-lift before a parked robot hides what is behind it for as long as it likes."""
    maps, frame, images = place
    learner = Learner(maps, "adapt", pytest.fail)
    before = drive(maps, learner, changed(read_image(images / frame.name)), frame, 60, apart=59.0)
    learner.close()
    pixmap = maps.submap.localizer.map
    with MapHealth(pixmap, health_path(pixmap.path)) as health:
        assert health.frames() == 1
        points = health.points()
    assert not points.gone.any()
    missed = before.reprojections[0].points[points.lately[before.reprojections[0].points] < 1]
    assert len(missed) > 20
    assert (points.judged[missed] == 1).all()


def test_where_nothing_can_be_written_the_robot_goes_on(place, monkeypatch):
    maps, frame, images = place
    health_path(maps.path).write_text("something else" * 100)
    warned = []
    learner = Learner(maps, "adapt", warned.append)
    assert "not a database" in warned[0]
    assert not learner.wanted
    drive(maps, learner, read_image(images / frame.name), frame)
    learner.close()


def test_nothing_is_made_unless_it_is_wanted(place):
    maps, frame, images = place
    learner = Learner(maps, "none", pytest.fail)
    drive(maps, learner, read_image(images / frame.name), frame, fixes=1)
    learner.close()
    assert not health_path(maps.path).exists()


def test_refused_images_are_counted_where_they_were_expected(place):
    maps, frame, _ = place
    learner = Learner(maps, "observe", pytest.fail)
    views = [View(np.zeros((480, 640, 3), np.uint8), frame.camera)]
    prior = Prior(frame.truth)
    answer = maps.localize_views(views, prior)
    assert not answer.ok
    for stamp in (1.0, 2.0, 3.0):  # of one place, once
        learner.add_refusal(answer, views, prior, stamp)
    learner.close()
    pixmap = maps.submap.localizer.map
    with MapHealth(pixmap, health_path(pixmap.path)) as health:
        references = health.references()
    assert references.refused.sum() == 3
    near = np.linalg.norm(pixmap.centres() - frame.truth.inverse().translation.numpy(), axis=1)
    assert near[references.refused > 0].min() < 1.0


def in_two_sessions(localizer):
    """Every second reference was taken at night."""
    of = np.arange(len(localizer.map)) % 2
    localizer.map.sessions = Sessions((Session("day"), Session("night")), of)
    return of


def test_references_of_the_session_that_fits_come_first(place):
    maps, frame, images = place
    localizer = maps.submap.localizer
    of = in_two_sessions(localizer)
    query = localizer.extract_features([View(read_image(images / frame.name), frame.camera)])[0]
    before = localizer.candidates.retrieved(query, None, [])
    seen_before = localizer.candidates.visible(query, frame.truth)
    localizer.prefer(np.where(of == 1, 1.0, 0.25))
    after = localizer.candidates.retrieved(query, None, [])
    seen = localizer.candidates.visible(query, frame.truth)
    for one, other in ((before, after), (seen_before, seen)):
        assert len(other) == len(one)
        # night moves to the front
        assert np.average(np.arange(len(one)), weights=of[other]) < np.average(
            np.arange(len(one)), weights=of[one]
        )
        # the order within a session stays
        night = [r for r in other if of[r]]
        assert night[: int(of[one].sum())] == [r for r in one if of[r]]
    # what was left out is not brought back
    without = localizer.leaving_out(after[:2]).candidates.retrieved(query, None, [])
    assert not set(without) & set(after[:2])
    localizer.prefer(None)
    assert localizer.candidates.retrieved(query, None, []) == before


@pytest.mark.parametrize(("learn", "preferred"), [("adapt", True), ("observe", False)])
def test_what_fixes_find_says_which_session_fits(place, monkeypatch, learn, preferred):
    maps, frame, images = place
    localizer = maps.submap.localizer
    of = in_two_sessions(localizer)
    learner = Learner(maps, learn, pytest.fail)
    views = [View(read_image(images / frame.name), frame.camera)]
    answer = maps.localize_views(views, Prior(frame.truth))
    judgement = judge_points(answer, views, localizer.inliers)
    # as if the references of the day no longer showed what is there
    shown = judgement.shown & (of[judgement.shown_by] == 1)
    night = replace(judgement, shown=shown)
    monkeypatch.setattr(learning, "judge_points", lambda *_: night)
    learner.add(answer, views, 1.0)
    learner.close()
    weights = localizer.candidates.weights
    if not preferred:
        assert weights is None
        return
    assert (weights[of == 1] == 1).all()
    assert (weights[of == 0] == LEAST).all()
