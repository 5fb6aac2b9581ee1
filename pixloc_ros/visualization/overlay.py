"""Points over an image, coloured by how well they fit."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pixloc_ros.localization import LocalizationResult, RecordedFrame, Reprojections

_ENDS = np.array([[0, 158, 115], [230, 159, 0], [213, 94, 0]], float)
"""Okabe and Ito's green, orange and vermilion: told apart by the colour-blind too."""


def residual_colours(residual: np.ndarray) -> np.ndarray:
    """RGB uint8 (n, 3): green fits, orange is at the bound of an inlier, vermilion beyond."""
    stops = np.array([0.0, 1.0, 2.0])
    return np.stack([np.interp(residual, stops, _ENDS[:, i]) for i in range(3)], -1).astype(
        np.uint8
    )


def draw_reprojections(image: np.ndarray, points: Reprojections) -> np.ndarray:
    """A copy of an RGB image (H, W, 3) with the points that were aligned, best ones on top."""
    drawn = np.ascontiguousarray(image).copy()
    order = np.argsort(-points.residual)
    radius = max(round(image.shape[1] / 320), 1)
    shift = 3  # cv2 draws on fractions of a pixel, whose centre is at whole numbers
    cells = np.rint((points.pixels - 0.5) * (1 << shift)).astype(int)
    colours = residual_colours(points.residual)
    for i in order:
        colour = tuple(int(c) for c in colours[i])
        x, y = (int(v) for v in cells[i])
        cv2.circle(drawn, (x, y), radius << shift, colour, -1, cv2.LINE_AA, shift)
    return drawn


def side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    """RGB images of any sizes in one, black below those that are less high."""
    height = max(image.shape[0] for image in images)
    return np.concatenate(
        [np.pad(i, ((0, height - i.shape[0]), (0, 0), (0, 0))) for i in images], axis=1
    )


def draw_frame(frame: RecordedFrame, step: int = -1) -> np.ndarray:
    """All views of a recorded frame side by side, with their reprojections at a step."""
    if frame.trace is None:
        return side_by_side([view.image for view in frame.views])
    return side_by_side(
        [
            draw_reprojections(view.image, frame.reprojections(step, number))
            for number, view in enumerate(frame.views)
        ]
    )


def as_jpeg(image: np.ndarray) -> bytes:
    """Of an RGB image."""
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def draw_result(images: list[np.ndarray], result: LocalizationResult, headline: str) -> np.ndarray:
    """All views of an answer side by side, under one line that says what became of it."""
    parts = list(images)
    for i, points in enumerate(result.reprojections):
        parts[i] = draw_reprojections(images[i], points)
    joined = side_by_side(parts)
    bar = 22
    canvas = np.zeros((joined.shape[0] + bar, joined.shape[1], 3), np.uint8)
    canvas[bar:] = joined
    cv2.putText(
        canvas, headline, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA
    )
    return canvas
