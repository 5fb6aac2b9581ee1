from __future__ import annotations

import cv2
import numpy as np

from pixloc_ros.visualization.trajectory import plot_trajectory


def test_draws_what_was_published(tmp_path):
    path = np.stack([np.linspace(0, 4, 30), np.zeros(30), np.linspace(1, 2, 30)], -1)
    cloud = np.random.default_rng(0).uniform(-1, 5, (200, 3))

    def vermilion(estimates):
        plot_trajectory(
            tmp_path / "p.png", cloud, path[::5], path, estimates, np.zeros((0, 3)), "drive"
        )
        image = cv2.imread(str(tmp_path / "p.png")).astype(int)
        return int((np.abs(image - [0, 94, 213]).max(-1) < 30).sum())

    few, many = vermilion(path[:3]), vermilion(path)
    assert few > 20
    assert many > 3 * few
    assert vermilion(np.zeros((0, 3))) < few
