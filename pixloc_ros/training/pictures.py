"""Pictures of an alignment in training: where points are, were put, and belong."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from pixloc_ros.training.batch import PairBatch
from pixloc_ros.training.model import AlignmentModel

SHOWN = 4
START, FOUND, TRUE = (230, 60, 40), (60, 200, 60), (255, 255, 255)


@torch.no_grad()
def alignment_picture(model: AlignmentModel, batch: PairBatch) -> np.ndarray:
    """RGB uint8 (H, W, 3): for some pairs the reference with its points, and the query with

    the points at the start (red), after alignment (green) and in truth (white).
    """
    was_training = model.training
    model.eval()
    found = model(batch).poses[-1]
    model.train(was_training)
    targets, seen = batch.targets
    rows = []
    for k in range(min(SHOWN, len(batch.truth))):
        images = [
            (batch.images[int(index[k])].permute(1, 2, 0).cpu().numpy() * 255).astype(np.uint8)
            for index in (batch.reference, batch.query)
        ]
        reference, query = (np.ascontiguousarray(image) for image in images)
        own, _ = batch.cameras[batch.reference[k]].project(batch.points[k])
        camera = batch.cameras[batch.query[k]]
        at_start, _ = camera.project(batch.start[k].transform(batch.points[k]))
        at_end, _ = camera.project(found[k].transform(batch.points[k]))
        for number in seen[k].nonzero().flatten().tolist()[:100]:
            _dot(reference, own[number], TRUE)
            for image, pixel, colour in (
                (query, at_start[number], START),
                (query, targets[k, number], TRUE),
                (query, at_end[number], FOUND),
            ):
                _dot(image, pixel, colour)
        rows.append(np.hstack([reference, query]))
    return np.vstack(rows)


def _dot(image: np.ndarray, pixel: torch.Tensor, colour: tuple[int, int, int]) -> None:
    x, y = (float(v) for v in pixel)
    if abs(x) < 1e4 and abs(y) < 1e4:
        cv2.circle(image, (int(x), int(y)), 2, colour, -1)
