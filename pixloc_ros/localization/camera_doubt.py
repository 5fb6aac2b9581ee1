"""Whether what an answer rests on says that the camera is another one than it is said to be.

A wrong focal length or principal point is made up for by a wrong pose, which fits well enough
near some points: nothing of how well it fits tells. That another camera fits better does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from pixloc_ros.alignment import CameraCheck, SeenPoints, check_camera
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization.matching import MatchedView, Matches, guess_focal
from pixloc_ros.localization.observations import LocalFrame
from pixloc_ros.localization.patches import PatchFit, PatchRefinement
from pixloc_ros.localization.refinement import Start
from pixloc_ros.localization.views import Query

FEWEST = 40
"""Points that may speak against the camera."""
AS_MANY = 0.8
"""Of the matches that agree with an answer, that must agree where the focal length is free."""
MOST = 400
"""Patches that are asked: more of them say the same."""
PATCHES = (0.04, 9.0)
MATCHES = (0.05, 3.0)
"""Least change of the logarithm of the focal length, and least shift of the centre in widths,
that is one, and how many standard deviations it must be. Those of matches are true; of patches
see `judging.PATCH_FACTORS`.
"""


SETTLING = 4
"""Times, at most, that patches are looked for until a pose with another camera has settled."""


@dataclass(frozen=True)
class CameraDoubt:
    """What the camera of one view seems to be, and where it would then be.

    view: its number. cam_from_map: float64. reason: in words.
    """

    view: int
    camera: Camera
    cam_from_map: Pose
    reason: str


def seeming_camera(
    patches: PatchRefinement,
    queries: Sequence[Query],
    start: Start,
    rig_from_map: Pose,
    fit: PatchFit | None,
) -> str:
    """Say which other camera more patches agree with; empty where what is said of it fits best.

    rig_from_map: the answer, float64, from `start`. fit: of its patches, if they agree on one.
    """
    most, reason = 0 if fit is None else fit.agreeing, ""
    for doubt in camera_doubts(queries, rig_from_map, start.matches, fit):
        agreeing = _agreeing(patches, doubt, queries, start)
        if agreeing > most:
            most, reason = agreeing, doubt.reason
    return reason


def _agreeing(
    patches: PatchRefinement, doubt: CameraDoubt, queries: Sequence[Query], start: Start
) -> int:
    """Points whose patches agree with what the camera of a view seems to be."""
    seeming = list(queries)
    seeming[doubt.view] = replace(queries[doubt.view], camera=doubt.camera)
    rig_from_map = queries[doubt.view].cam_from_rig.inverse() @ doubt.cam_from_map
    most = 0
    # the pose comes of matches, and is as exact as they are
    for _ in range(SETTLING):
        _, found = patches.fit(seeming, start.references, rig_from_map)
        if found is None or found.agreeing <= most:
            break
        most, rig_from_map = found.agreeing, found.rig_from_map
    return most


def camera_doubts(
    queries: Sequence[Query],
    rig_from_map: Pose,
    matches: Sequence[Matches | None],
    fit: PatchFit | None,
) -> Iterator[CameraDoubt]:
    """Of an answer at a pose (float64). matches: of each view, if it was matched. fit: of its
    patches.
    """
    for number, (query, matched) in enumerate(zip(queries, matches, strict=bool(matches))):
        if matched is None:
            continue
        guess = guess_focal(MatchedView(matched, query.camera, query.cam_from_rig))
        known = int(matched.near(query.cam_from_rig @ rig_from_map, query.camera).sum())
        if guess is None or guess.agreeing < max(FEWEST, AS_MANY * known):
            continue
        points = matched.points[guess.near]
        frame = LocalFrame.around(points)
        view = SeenPoints(
            points - frame.origin,
            matched.pixels[guess.near],
            torch.ones(len(points), dtype=torch.float64),
            query.camera,
            query.cam_from_rig,
        )
        start = frame.from_map(guess.cam_from_map).to(torch.float64)
        yield from _doubt(number, query, view, start, frame, guess.focal, *MATCHES)
    if fit is not None:
        for number, (query, view) in enumerate(zip(queries, fit.views, strict=True)):
            start = view.cam_from_rig @ fit.fit.rig_from_map
            if len(view.points) >= FEWEST:
                some = _even_choice(view)
                yield from _doubt(number, query, some, start, fit.frame, 1.0, *PATCHES)


def _even_choice(view: SeenPoints) -> SeenPoints:
    step = -(-len(view.points) // MOST)
    return replace(
        view, points=view.points[::step], pixels=view.pixels[::step], share=view.share[::step]
    )


def _doubt(
    number: int,
    query: Query,
    view: SeenPoints,
    cam_from_local: Pose,
    frame: LocalFrame,
    focal: float,
    least: float,
    sigmas: float,
) -> Iterator[CameraDoubt]:
    starts: dict[Literal["focal", "centre"], float] = {"focal": focal, "centre": 1.0}
    for free, begin in starts.items():
        alone = check_camera(view, cam_from_local, free, begin)
        reason = "" if alone is None else _reason(alone, least, sigmas)
        if alone is None or not reason:
            continue
        shift = torch.tensor(alone.shift, dtype=torch.float64) * query.camera.size[0]
        camera = replace(
            query.camera,
            focal=query.camera.focal * alone.focal,
            centre=query.camera.centre + shift,
        )
        yield CameraDoubt(number, camera, frame.to_map(alone.cam_from_map), reason)


def _reason(check: CameraCheck, least: float, sigmas: float) -> str:
    if abs(math.log(check.focal)) > max(least, sigmas * check.log_sigma):
        return f"the camera's focal length seems to be {check.focal:.2f} times what is said of it"
    for shift, sigma, way in zip(check.shift, check.shift_sigma, ("right", "down"), strict=True):
        if abs(shift) > max(least, sigmas * sigma):
            return (
                "the camera's principal point seems to be "
                f"{shift:+.0%} of the image's width further {way} than is said of it"
            )
    return ""
