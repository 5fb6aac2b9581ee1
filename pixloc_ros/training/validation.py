"""How well a network localizes held-out pairs, in the units a user thinks in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from pixloc_ros.training.batch import PairBatch
from pixloc_ros.training.model import AlignmentModel


@dataclass(frozen=True)
class ValidationResult:
    """Errors of held-out pairs after alignment.

    loss: mean. position: median distance between the camera centres as share of the median
    depth; rotation_deg: median. recall: share within 5 % of the depth and 5 degrees; start:
    the same before alignment. matched: share of points whose most similar feature in the query
    is their own. retrieval: share of images whose most similar other image shows the same.
    """

    loss: float
    position: float
    rotation_deg: float
    recall: float
    start: float
    matched: float
    retrieval: float
    pairs: int

    def __str__(self) -> str:
        return (
            f"{self.pairs} held-out pairs: median {100 * self.position:.2f} % of the depth, "
            f"{self.rotation_deg:.3f} deg; within 5 % 5 deg {self.recall:.1%} (start "
            f"{self.start:.1%}); matched {self.matched:.1%}; retrieved {self.retrieval:.1%}; "
            f"loss {self.loss:.3f}"
        )


@torch.no_grad()
def validate(model: AlignmentModel, batches: Iterable[PairBatch]) -> ValidationResult:
    """Align the pairs of held-out batches with the model in evaluation mode."""
    was_training = model.training
    model.eval()
    rows: list[np.ndarray] = []
    losses, retrieved = [], []
    for batch in batches:
        outcome = model(batch)
        losses.append(float(outcome.total))
        depth = batch.points[..., 2].median(-1).values
        columns = []
        for pose in (batch.start, outcome.poses[-1]):
            metres, angle = pose.distance(batch.truth)
            columns += [metres / depth, torch.rad2deg(angle)]
        table = torch.stack([*columns, outcome.matched], -1)
        rows.append(table[batch.valid].cpu().numpy())
        if batch.overlap is not None:
            retrieved.append(_retrieved(outcome.descriptors, batch.overlap))
    model.train(was_training)
    values = np.concatenate(rows)
    if not len(values):
        return ValidationResult(math.nan, math.inf, math.inf, 0.0, 0.0, 0.0, 0.0, 0)
    start = (values[:, 0] < 0.05) & (values[:, 1] < 5)
    found = (values[:, 2] < 0.05) & (values[:, 3] < 5)
    return ValidationResult(
        loss=float(np.mean(losses)),
        position=float(np.median(values[:, 2])),
        rotation_deg=float(np.median(values[:, 3])),
        recall=float(found.mean()),
        start=float(start.mean()),
        matched=float(values[:, 4].mean()),
        retrieval=float(np.mean(retrieved)) if retrieved else math.nan,
        pairs=len(values),
    )


def _retrieved(descriptors: torch.Tensor, overlap: torch.Tensor) -> float:
    """Share of images whose nearest other image is the one of its scene it overlaps most with."""
    scenes, views = overlap.shape[:2]
    scores = descriptors @ descriptors.T
    scores.fill_diagonal_(-2.0)
    best = scores.argmax(-1)
    mutual = torch.minimum(overlap, overlap.transpose(1, 2))
    mutual = mutual.masked_fill(torch.eye(views, dtype=torch.bool, device=overlap.device), -1.0)
    wanted = mutual.argmax(-1) + torch.arange(scenes, device=best.device)[:, None] * views
    return float((best == wanted.flatten()).float().mean())
