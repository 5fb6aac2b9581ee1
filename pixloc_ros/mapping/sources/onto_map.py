"""Poses of a recording, brought into the frame of a map that knows the same place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Pose
from pixloc_ros.left_out import LeftOut

AGREEING_M, AGREEING_SHARE, AGREEING_DEG = 0.05, 0.05, 3.0
"""Two images agree on where the recording lies where the second is found this near to where the
first and the odometry between them say: metres, and share of the way between them."""
WITNESSES = 4
"""Found images before and after another one with which it is compared, at most."""
REACH_M = 5.0
"""Metres of the recording's own odometry that are trusted, from an image that is found to one
that is not."""


def onto_map(
    poses: Mapping[str, Pose],
    found: Mapping[str, Pose],
    left_out: LeftOut,
) -> dict[str, Pose]:
    """cam_from_map of images by name, of which `poses` says cam_from_recording, in order of time.

    found: cam_from_map of those that are localized in the map. They stay where they are found, so
    that the recording's drift does not matter. An image that is not found, as at night in a map of
    the day, has the pose that the recording says from the found ones before and after it, up to
    REACH_M away. Found images that most of their neighbours contradict count as not found. What
    has no pose is counted in left_out. Raises InputError where none has one.
    """
    names = list(poses)
    trusted = _agreeing(poses, found)
    if not trusted:
        raise InputError(
            f"{len(found)} of {len(names)} keyframes are found in the map, and none of them "
            "agrees with others: is it the same place?"
        )
    way = np.cumsum([0.0, *(_apart(poses[a], poses[b]) for a, b in pairwise(names))])
    known = np.array([names.index(name) for name in trusted])
    placed = {}
    for number, name in enumerate(names):
        if name in trusted:
            placed[name] = found[name]
            continue
        sides = [*known[known < number][-1:], *known[known > number][:1]]
        near = [int(side) for side in sides if abs(way[side] - way[number]) <= REACH_M]
        if not near:
            left_out.add("too far from those that are found in the map", name)
            continue
        said = [poses[name] @ poses[names[s]].inverse() @ found[names[s]] for s in near]
        shares = np.array([1 / max(abs(way[side] - way[number]), 1e-3) for side in near])
        placed[name] = _between(said, shares / shares.sum())
    return placed


def _apart(one: Pose, other: Pose) -> float:
    return float((one.inverse().translation - other.inverse().translation).norm())


def _agreeing(poses: Mapping[str, Pose], found: Mapping[str, Pose]) -> list[str]:
    """Names of the found images with which most of their neighbours agree."""
    names, agreeing = list(found), []
    for number, name in enumerate(names):
        others = names[max(0, number - WITNESSES) : number + WITNESSES + 1]
        others.remove(name)
        votes = [_agree(poses, found, name, other) for other in others]
        if votes and 2 * sum(votes) >= len(votes):
            agreeing.append(name)
    return agreeing


def _agree(poses: Mapping[str, Pose], found: Mapping[str, Pose], one: str, other: str) -> bool:
    metres, radians = (poses[other] @ poses[one].inverse() @ found[one]).distance(found[other])
    reach = AGREEING_M + AGREEING_SHARE * _apart(poses[one], poses[other])
    return float(metres) <= reach and float(torch.rad2deg(radians)) <= AGREEING_DEG


def _between(poses: Sequence[Pose], shares: np.ndarray) -> Pose:
    """The weighted mean of one or two poses that are near to each other."""
    first = poses[0]
    if len(poses) == 1:
        return first
    return first.interpolate(poses[1], float(shares[1]))
