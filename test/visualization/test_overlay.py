from __future__ import annotations

import numpy as np

from pixloc_ros.localization import LocalizationResult, Reprojections, Status
from pixloc_ros.visualization.overlay import draw_reprojections, draw_result, residual_colours


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


def test_views_stand_side_by_side_under_a_headline():
    points = Reprojections(np.array([[5.0, 5.0]]), np.array([0.0]))
    result = LocalizationResult(Status.SUCCESS, "aligned", reprojections=(points, points))
    small, large = np.zeros((40, 50, 3), np.uint8), np.zeros((60, 80, 3), np.uint8)
    drawn = draw_result([small, large], result, "tracking: aligned")
    assert drawn.shape == (60 + 22, 50 + 80, 3)
    assert drawn[:22].any()
    refused = LocalizationResult(Status.FAILED, "nothing")
    assert not draw_result([small], refused, "")[22:].any()
