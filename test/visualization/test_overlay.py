from __future__ import annotations

import numpy as np

from pixloc_ros.localization import InlierStatistics, LocalizationResult, Reprojections, Status
from pixloc_ros.visualization.overlay import (
    BAR,
    draw_reprojections,
    draw_result,
    residual_colours,
)


def test_colours_go_from_green_over_orange_to_vermilion():
    colours = residual_colours(np.array([0.0, 1.0, 2.0, 50.0]))
    assert colours.tolist()[0] == [0, 158, 115]
    assert colours.tolist()[1] == [230, 159, 0]
    assert colours.tolist()[2] == colours.tolist()[3] == [213, 94, 0]


def test_points_are_drawn_where_they_are_and_the_image_is_left_alone():
    image = np.zeros((60, 80, 3), np.uint8)
    points = Reprojections(np.array([[20.5, 30.5]]), np.array([0.0]))
    drawn = draw_reprojections(image, points)
    assert image.max() == 0
    assert drawn[30, 20].tolist() == [0, 158, 115]
    away = np.argwhere(drawn.any(-1)) - [30, 20]
    assert np.abs(away).max() <= 3
    # of two points in one place the one that fits is seen
    both = Reprojections(np.full((2, 2), 30.5), np.array([0.0, 5.0]))
    assert draw_reprojections(image, both)[30, 30].tolist() == [0, 158, 115]


def test_views_stand_side_by_side_under_what_became_of_them():
    points = Reprojections(np.array([[5.0, 5.0]]), np.array([0.0]))
    result = LocalizationResult(Status.SUCCESS, "aligned", reprojections=(points, points))
    small, large = np.zeros((40, 500, 3), np.uint8), np.zeros((60, 80, 3), np.uint8)
    drawn = draw_result([small, large], result, "tracking: aligned", True)
    assert drawn.shape == (60 + BAR, 500 + 80, 3)
    assert drawn[:BAR, 12:].any()
    refused = LocalizationResult(Status.FAILED, "nothing")
    assert not draw_result([small], refused, "", False)[BAR:].any()


def test_the_colour_at_the_left_tells_whether_it_is_believed():
    image = np.zeros((40, 300, 3), np.uint8)
    aligned = LocalizationResult(Status.SUCCESS, "aligned")
    refused = LocalizationResult(Status.REJECTED, "too few points")

    def colour(result, fixed):
        return draw_result([image], result, "", fixed)[5, 2].tolist()

    assert colour(aligned, True) == [0, 158, 115]
    assert colour(aligned, False) == [230, 159, 0]
    assert colour(refused, False) == [213, 94, 0]


def test_what_an_answer_rests_on_is_said():
    """Long lines end where the picture does."""
    image = np.zeros((40, 640, 3), np.uint8)
    numbers = InlierStatistics(points=800, visible=0.5, inliers=0.75, matches=60)
    bare = LocalizationResult(Status.REJECTED, "x")
    told = LocalizationResult(Status.REJECTED, "x", statistics=numbers, timings_ms={"total": 9})
    one, two = (draw_result([image], r, "x", False) for r in (bare, told))
    changed = np.argwhere((one != two).any(-1))
    assert len(changed) > 100
    assert changed[:, 0].min() > 18
    assert changed[:, 0].max() < BAR
    long = draw_result([image], told, "because " * 100, False)
    assert long.shape == two.shape
    assert not long[:20, -4:].any()
    assert draw_result([image[:, :60]], told, "because " * 100, False).shape[1] == 60
