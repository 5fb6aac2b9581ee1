from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.localization import (
    GateOptions,
    InlierStatistics,
    MotionOptions,
    TrackerOptions,
)
from pixloc_ros.localization.gating import InlierModel
from pixloc_ros.localization.gating import gate as gate_by_fit
from pixloc_ros.mapping import ResidualStatistics

GOOD = InlierStatistics(points=500, visible=0.8, inliers=0.8, cost=0.01, condition=50.0)
COVARIANCE = torch.eye(6, dtype=torch.float64)


def gate(statistics, model, covariance, options):
    """By the fit that a model says of the inliers."""
    return gate_by_fit(replace(statistics, fit=model.fit(statistics.inliers)), covariance, options)


@pytest.fixture
def model():
    return InlierModel.of(
        ResidualStatistics(np.linspace(0.0, 0.5, 101), np.linspace(0.4, 2.4, 101))
    )


def test_threshold_separates_best(model):
    assert 0.4 <= model.threshold <= 0.5
    assert model.matching > 0.8
    assert model.unrelated < 0.06
    assert model.fit(model.matching) == pytest.approx(1.0)
    assert model.fit(model.unrelated) == pytest.approx(0.0)


def test_the_threshold_is_not_where_all_matching_points_are_in():
    """Of points that match, half are nearer than 0.5; of those that do not, none is."""
    overlapping = ResidualStatistics(np.linspace(0.0, 1.0, 101), np.linspace(0.5, 1.0, 101))
    model = InlierModel.of(overlapping)
    assert model.threshold == pytest.approx(0.5, abs=0.02)
    assert model.unrelated < 0.05


def test_a_map_without_statistics_still_has_a_threshold():
    nothing = np.full(101, np.nan)
    model = InlierModel.of(ResidualStatistics(nothing, nothing))
    assert model.threshold == 1.0
    # and the fit is the share of inliers
    assert model.fit(0.7) == pytest.approx(0.7)


def test_no_unrelated_point_is_nearer_than_the_nearest_seen():
    apart = ResidualStatistics(np.linspace(0.0, 0.5, 101), np.linspace(1.0, 2.0, 101))
    model = InlierModel.of(apart)
    assert (model.threshold, model.matching, model.unrelated) == (0.5, 1.0, 0.0)


@pytest.mark.parametrize(
    ("kind", "low", "high", "names"),
    [
        (GateOptions, 6, 100_000, "min_points matches patches"),
        (GateOptions, 0, 1, "min_visible min_fit matched_fit ambiguity"),
        (GateOptions, 0, 1, "min_patch_share unpatched_fit picture_share picture_visible"),
        (GateOptions, 0, 1, "min_evenness"),
        (GateOptions, 0, 16, "min_spread picture_spread"),
        (GateOptions, 0, 180, "max_view_deg"),
        (GateOptions, 0, 1e6, "max_shift_px"),
        (GateOptions, 1, 1e12, "max_condition"),
        (TrackerOptions, 0.1, 1e6, "agreement weak_agreement lost_m lost_deg"),
        (TrackerOptions, 0, 1e6, "confirm_m lost_after moved_after"),
        (TrackerOptions, 0, 180, "gravity_deg"),
        (MotionOptions, 0, 1e6, "drift drift_deg turn_drift floor_m floor_deg"),
        (MotionOptions, 0, 1e6, "max_speed max_turn_deg"),
    ],
)
def test_settings_have_a_range_and_both_ends_of_it(kind, low, high, names):
    for name in names.split():
        for value in (low, high):
            assert getattr(kind(**{name: value}), name) == value
        for value in (math.nextafter(low, -math.inf), math.nextafter(high, math.inf)):
            with pytest.raises(InputError, match=f"setting {name} is"):
                kind(**{name: value})


def changed(**fields):
    return InlierStatistics(**{**GOOD.__dict__, **fields})


def test_believes_a_good_answer(model):
    assert gate(GOOD, model, COVARIANCE, GateOptions()) == ""


def test_the_documented_defaults_are_those_in_the_code():
    page = Path(__file__).parents[2] / "doc" / "settings.md"
    kinds = {"gate.": GateOptions(), "motion.": MotionOptions(), "": TrackerOptions()}
    told = {}
    for names, values in re.findall(r"^\| (`[^|]+`) \| ([\d., e-]+) \|", page.read_text(), re.M):
        for name, value in zip(re.findall(r"`(.+?)`", names), values.split(", "), strict=False):
            told[name] = float(value)
    for prefix, options in kinds.items():
        for name, value in options.__dict__.items():
            if name != "motion":
                assert told[prefix + name] == value, name


def test_exactly_what_is_asked_for_is_enough():
    options, model = GateOptions(), InlierModel(1.0, 1.0, 0.0)
    least = InlierStatistics(
        points=150,
        visible=options.min_visible,
        inliers=options.min_fit,
        view_deg=options.max_view_deg,
        shift_px=options.max_shift_px,
        condition=options.max_condition,
    )
    assert round(least.points * least.visible) == options.min_points
    matched = {"matches": options.matches, "spread": options.min_spread}
    patched = {
        "patches": options.patches,
        "patch_share": options.min_patch_share,
        "patch_spread": options.min_spread,
    }
    patched |= {"visible": options.picture_visible, "points": 1000}
    wider = matched | {"spread": 2 * options.min_spread, "patches_sought": 2000}
    wider |= {"evenness": options.min_evenness}
    for fields in (
        {},
        matched | {"inliers": options.matched_fit},
        patched | {"inliers": options.matched_fit},
        wider | {"inliers": options.unpatched_fit},
    ):
        enough = InlierStatistics(**{**least.__dict__, **fields})
        assert gate(enough, model, COVARIANCE, options) == ""


def test_matches_are_blamed_only_where_there_are_many_in_one_part(model):
    few = {"matches": 10, "spread": 1.2}
    wide = {"inliers": 0.05, "matches": 400, "spread": 4.0}
    for fields in ({}, few, wide):
        reason = gate(changed(**{"inliers": 0.3} | fields), model, COVARIANCE, GateOptions())
        assert reason.endswith("is needed")


def test_many_matches_are_evidence_of_their_own(model):
    matched = changed(inliers=0.3, matches=40, spread=4.0)
    assert gate(matched, model, COVARIANCE, GateOptions()) == ""


def test_but_not_in_one_part_of_the_image(model):
    """As where a poster shows the place, or an image is in pieces."""
    poster = changed(inliers=0.3, matches=400, spread=1.2)
    reason = gate(poster, model, COVARIANCE, GateOptions())
    assert "0.40 is needed, as the matches lie in one part of the image" in reason
    assert gate(changed(spread=1.2, matches=400), model, COVARIANCE, GateOptions()) == ""


def test_so_are_many_patches(model):
    """Where retrieval found few matches, or the view is half covered."""
    patched = changed(inliers=0.3, patches=60, patch_share=0.25, patch_spread=3.0)
    assert gate(patched, model, COVARIANCE, GateOptions()) == ""
    for weaker in ({"patches": 30}, {"patch_share": 0.1}, {"patch_spread": 1.2}):
        fewer = InlierStatistics(**{**patched.__dict__, **weaker})
        assert "0.40 is needed" in gate(fewer, model, COVARIANCE, GateOptions())


def test_patches_in_one_part_of_the_image_refuse_any_pose(model):
    """A picture of the place, in a view of another place, may fit as well as the place does."""
    poster = changed(inliers=0.8, patches=400, patch_share=0.4, patch_spread=1.0, matches=400)
    reason = gate(poster, model, COVARIANCE, GateOptions())
    assert "400 patches agree, but all in one part of the image" in reason
    wide = changed(inliers=0.8, patches=400, patch_share=0.4, patch_spread=1.7, matches=400)
    assert gate(wide, model, COVARIANCE, GateOptions()) == ""


@pytest.mark.parametrize("plain", ["patch_share", "patch_spread", "visible"])
def test_a_picture_of_the_place_is_found_by_three_signs(model, plain):
    """Few patches, beside each other, and much of what references show lies outside."""
    options = GateOptions()
    picture = changed(
        inliers=0.8,
        visible=options.picture_visible - 0.01,
        patches=400,
        patch_share=options.picture_share - 0.01,
        patch_spread=options.picture_spread - 0.01,
        matches=400,
    )
    reason = gate(picture, model, COVARIANCE, options)
    assert reason == (
        "29% of the patches agree, in a small part of the image (spread 2.2), and 11% of the "
        "points lie outside of it, as where it shows a picture of the place"
    )
    place = {
        "patch_share": options.picture_share,
        "patch_spread": options.picture_spread,
        "visible": options.picture_visible,
    }
    without = InlierStatistics(**{**picture.__dict__, plain: place[plain]})
    assert gate(without, model, COVARIANCE, options) == ""


@pytest.mark.parametrize("matches", [0, 400])
def test_where_no_patch_is_found_inliers_must_be_everywhere(model, matches):
    options = GateOptions()
    blurred = changed(inliers=0.8, patches_sought=2000, matches=matches, spread=5.0)
    blurred = InlierStatistics(**{**blurred.__dict__, "evenness": options.min_evenness})
    assert gate(blurred, model, COVARIANCE, options) == ""
    pieces = InlierStatistics(**{**blurred.__dict__, "evenness": options.min_evenness - 0.01})
    assert gate(pieces, model, COVARIANCE, options) == (
        "no patch is found, and inliers lie in parts of the image only (evenness 0.69, 0.7 is "
        "needed)"
    )
    found = InlierStatistics(**{**pieces.__dict__, "patches": 50, "patch_spread": 3.0})
    assert gate(found, model, COVARIANCE, options) == ""


def test_where_no_patch_is_found_matches_must_fit_better(model):
    """As in a blurred image of another place."""
    for inliers, spread, refused in ((0.15, 4.0, True), (0.3, 4.0, False), (0.3, 2.0, True)):
        poor = changed(inliers=inliers, matches=60, spread=spread, patches_sought=2000)
        poor = InlierStatistics(**{**poor.__dict__, "evenness": 1.0})
        assert bool(gate(poor, model, COVARIANCE, GateOptions())) == refused
    unasked = changed(inliers=0.15, matches=60, spread=2.0)
    assert gate(unasked, model, COVARIANCE, GateOptions()) == ""


def test_nobody_sees_places_from_behind(model):
    behind = changed(view_deg=80.0)
    assert "seen 80 deg from where" in gate(behind, model, COVARIANCE, GateOptions())


@pytest.mark.parametrize(
    ("statistics", "covariance", "message"),
    [
        (changed(points=20), COVARIANCE, "points visible, 30 are needed"),
        (changed(points=0, visible=0.0), COVARIANCE, "only 0 points"),
        (changed(visible=0.1), COVARIANCE, "10% of the points visible, 20% are needed"),
        (changed(inliers=0.3), COVARIANCE, "30% inliers"),
        (changed(inliers=0.3, matches=39), COVARIANCE, "0.40 is needed"),
        # few matches, however wide they are spread
        (changed(inliers=0.3, matches=39, spread=4.0), COVARIANCE, "0.40 is needed"),
        (
            changed(inliers=0.3, matches=39, spread=4.0, patches_sought=2000),
            COVARIANCE,
            "0.40 is needed",
        ),
        (changed(inliers=0.1, matches=400, spread=4.0), COVARIANCE, "0.10 is needed"),
        (changed(shift_px=12.0), COVARIANCE, "moved the points by 12 pixels"),
        (changed(condition=1e6), COVARIANCE, "not determined"),
        (GOOD, torch.full((6, 6), torch.inf), "not determined"),
    ],
)
def test_refuses_with_the_reason(model, statistics, covariance, message):
    assert message in gate(statistics, model, covariance, GateOptions())
