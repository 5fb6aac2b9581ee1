"""Points over an image, coloured by how well they fit."""

from __future__ import annotations

import math
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


def _facts(result: LocalizationResult) -> str:
    """What an answer rests on, in one line."""
    statistics, parts = result.statistics, []
    if statistics.points:
        parts = [
            "from the prior" if result.from_prior else f"{statistics.matches} matches",
            f"{statistics.points} points",
            f"{statistics.visible:.0%} visible",
            f"{statistics.inliers:.0%} inliers",
        ]
        if statistics.patches:
            parts.append(f"{statistics.patches} patches")
    if result.ok:
        sigmas = result.covariance.diagonal().clamp(min=0)
        metres = float(sigmas[:3].sum().sqrt())
        degrees = math.degrees(float(sigmas[3:].sum().sqrt()))
        parts.append(f"sigma {metres:.3f} m {degrees:.2f} deg")
    if "total" in result.timings_ms:
        parts.append(f"{result.timings_ms['total']:.0f} ms")
    return ", ".join(parts)


def _fitting(text: str, width: int, scale: float) -> str:
    """As much of a line as there is room for."""
    while text and cv2.getTextSize(text, _FONT, scale, 1)[0][0] > width:
        text = text[:-2].rstrip() + "~" if not text.endswith("~") else text[:-2] + "~"
        if text == "~":
            return ""
    return text


_FONT = cv2.FONT_HERSHEY_SIMPLEX
BAR = 42
"""Height of the two lines over a picture, pixels."""


def draw_result(
    images: Sequence[np.ndarray], result: LocalizationResult, headline: str, fixed: bool
) -> np.ndarray:
    """All views of an answer side by side, under two lines that say what became of it.

    fixed: whether it was believed, which the colour at the left tells; at the right is what the
    colours of points mean.
    """
    parts = list(images)
    for i, points in enumerate(result.reprojections):
        parts[i] = draw_reprojections(images[i], points)
    joined = side_by_side(parts)
    width = joined.shape[1]
    canvas = np.zeros((joined.shape[0] + BAR, width, 3), np.uint8)
    canvas[BAR:] = joined
    mood = 0 if fixed else 1 if result.ok else 2
    canvas[:BAR, :6] = _ENDS[mood].astype(np.uint8)
    legend = ("fits", "bound", "beyond")
    room = sum(cv2.getTextSize(word, _FONT, 0.36, 1)[0][0] + 22 for word in legend)
    x = width - room
    shown = x > width // 3
    for word, colour in zip(legend if shown else (), _ENDS, strict=False):
        cv2.circle(canvas, (x + 8, 30), 4, tuple(int(c) for c in colour), -1, cv2.LINE_AA)
        cv2.putText(canvas, word, (x + 16, 34), _FONT, 0.36, (200,) * 3, 1, cv2.LINE_AA)
        x += cv2.getTextSize(word, _FONT, 0.36, 1)[0][0] + 22
    white, gray = (255,) * 3, (200,) * 3
    first = _fitting(headline, width - 18, 0.42)
    cv2.putText(canvas, first, (12, 16), _FONT, 0.42, white, 1, cv2.LINE_AA)
    second = _fitting(_facts(result), width - 18 - (room if shown else 0), 0.36)
    cv2.putText(canvas, second, (12, 34), _FONT, 0.36, gray, 1, cv2.LINE_AA)
    return canvas
