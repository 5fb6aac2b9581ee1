from __future__ import annotations

import cv2

from pixloc_ros.visualization.curves import plot_basin


def curve(label, *shares):
    points = [{"degrees": 5.0 * k, "metres": 0.1 * k, "found": s} for k, s in enumerate(shares)]
    return {"label": label, "points": points}


def test_each_curve_is_drawn_at_its_height(tmp_path):
    def blue(found):
        plot_basin([curve("a", found, found, found)], tmp_path / "b.png")
        image = cv2.imread(str(tmp_path / "b.png")).astype(int)[:430, 120:600]
        rows = ((image[..., 0] > 150) & (image[..., 2] < 80)).nonzero()[0]
        return float(rows.mean())

    assert blue(0.9) < blue(0.5) < blue(0.1)
