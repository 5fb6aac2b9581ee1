"""Which images of a drive are worth mapping: those that show something new, and sharply."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from pixloc_ros.geometry import Pose

LATEST = 1.5
"""A keyframe is the sharpest image between one step and so many after the last one."""


@dataclass(frozen=True)
class Keyframe:
    """stamp: seconds. image: RGB uint8 (H, W, 3). pose: cam_from_map."""

    stamp: float
    image: np.ndarray
    pose: Pose


def sharpness(image: np.ndarray) -> float:
    """Variance of the Laplacian, over the variance of the image: motion blurs it away."""
    factor = min(640 / image.shape[1], 1.0)
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(cv2.Laplacian(gray, cv2.CV_32F).var() / max(float(gray.var()), 1.0))


def keyframes(frames: Iterable[Keyframe], metres: float, degrees: float) -> Iterator[Keyframe]:
    """The first frame, then the sharpest of those about one step from the last one.

    A step is `metres` of the camera's centre or `degrees` of its turn.
    """
    last: Keyframe | None = None
    best: tuple[float, Keyframe] | None = None
    for frame in frames:
        if last is None:
            last = frame
            yield frame
            continue
        moved, turned = last.pose.distance(frame.pose)
        steps = max(float(moved) / metres, float(torch.rad2deg(turned)) / degrees)
        if steps < 1:
            continue
        if best is not None and steps > LATEST:
            last = best[1]
            yield last
            best = None
            moved, turned = last.pose.distance(frame.pose)
            if max(float(moved) / metres, float(torch.rad2deg(turned)) / degrees) < 1:
                continue
        value = sharpness(frame.image)
        if best is None or value > best[0]:
            best = (value, frame)
    if best is not None:
        yield best[1]
