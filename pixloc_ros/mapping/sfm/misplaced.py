"""Images that structure from motion left standing in the wrong place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap

MISPLACED = 0.3
"""Share of the usual, of matches that became points, below which an image stands wrong."""


def take_out_misplaced(model: pycolmap.Reconstruction, database: Path) -> int:
    """Take out images that stand where what matches between them and others is not seen alike.

    Of what matches in two images that both stand right most becomes a point that both see. In
    COLMAP a pair can be left standing somewhere of its own. Returns how many are taken out.
    """
    seen = {
        image.image_id: {p.point3D_id for p in image.get_observation_points2D()}
        for image in model.images.values()
    }
    matched, shared = dict.fromkeys(seen, 0), dict.fromkeys(seen, 0)
    with pycolmap.Database.open(database) as opened:
        pairs, counts = opened.read_two_view_geometry_num_inliers()
    for pair, count in zip(pairs, counts, strict=True):
        one, other = pycolmap.pair_id_to_image_pair(pair)
        if one in seen and other in seen:
            both = len(seen[one] & seen[other])
            for number in (one, other):
                matched[number] += count
                shared[number] += both
    share = {number: shared[number] / max(matched[number], 1) for number in seen}
    usual = float(np.median(list(share.values())))
    wrong = [number for number in seen if share[number] < MISPLACED * usual]
    for number in wrong:
        model.deregister_frame(model.images[number].frame_id)
    return len(wrong)
