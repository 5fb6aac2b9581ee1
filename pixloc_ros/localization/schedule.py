"""The order of levels in which hypotheses are aligned, and which of them go on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from pixloc_ros.alignment import LMResult
from pixloc_ros.geometry import Pose

KEPT = 2
"""Hypotheses that go on from a coarse level to the next, beside the prior itself."""


class Align(Protocol):
    """Aligns poses (B,) along some levels, one after the other.

    parents: (B,) the number of the hypothesis that each comes from, -1 for a start.
    """

    def __call__(self, levels: range, poses: Pose, parents: Tensor) -> LMResult: ...


@dataclass(frozen=True)
class Aligned:
    """Hypotheses (B,) at the end. before: their poses at the level before the finest. failed: (B,)
    bool, those that were lost at the last two stages. result: of the finest level.
    """

    result: LMResult
    before: Pose
    failed: Tensor


def coarse_to_fine(align: Align, levels: int, begin: Pose, from_prior: bool) -> Aligned:
    """Align poses (B,) along all levels.

    Matches are as good as the cells they were found in: their poses start at the last two levels.
    A prior may be far off: it goes through the coarser levels first, with others around it where
    it is vague, and the best go on. Those levels can also lead a good one astray, so it enters
    the race anew at each.
    """
    fine, last = max(levels - 2, 0), levels - 1
    every = torch.arange(len(begin), device=begin.translation.device)
    poses, parents = begin, torch.full_like(every, -1)
    for level in range(fine if from_prior else 0):
        moved = align(range(level, level + 1), poses, parents)
        cost = torch.where(moved.failed, math.inf, moved.cost)
        best = cost.argsort()[:KEPT]
        poses, parents = Pose.cat([begin[:1], moved.pose[best]]), pad(best, (1, 0), value=-1)
    lost = torch.zeros_like(poses.translation[:, 0], dtype=torch.bool)
    if fine < last:
        coarse = align(range(fine, last), poses, parents)
        poses, lost = coarse.pose, coarse.failed
        parents = torch.arange(len(poses), device=parents.device)
    result = align(range(last, last + 1), poses, parents)
    return Aligned(result, poses, result.failed | lost)
