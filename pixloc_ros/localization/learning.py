"""Learning from fixes which points of maps are still there, and going on without the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from pixloc_ros.localization.ageing import judge_points
from pixloc_ros.localization.kept_frames import FrameKeeper
from pixloc_ros.localization.map_set import MapSet, Submap
from pixloc_ros.localization.result import LocalizationResult, Prior
from pixloc_ros.localization.session_fits import SessionFits
from pixloc_ros.localization.viewpoints import Viewpoints
from pixloc_ros.localization.views import View
from pixloc_ros.mapping.health import (
    HealthError,
    Judgement,
    MapHealth,
    health_path,
    robot_name,
)

LEARN = ("none", "observe", "adapt")
"""observe: keep what is found of the map beside it; adapt: also leave out what is gone, and take
references of the sessions that lately matched before others.
The word off would be YAML's false."""
NEAREST = 3
"""References that a refused image is counted for: those that see most of what it should show."""
SAME_VIEW = 3600.0
"""Seconds in which a map is judged only once from one place: who stands there, or drives there
again and again, sees the same light and the same things in the way."""
AGAIN = 300.0
"""Seconds after which the points that are gone are looked up again."""
MOST_GONE = 0.5
"""A map with a larger share of points gone is not adapted any more, but to be built again."""


class Learner:
    """Keeps the health of the maps of a set. warn: told why learning ends.

    learn: one of LEARN. keep_frames: folder for images of places where a map is weak, or empty;
    keep_mb: its room for each map. A robot whose disk is full, or whose maps lie where nothing can
    be written, goes on without learning.
    """

    def __init__(
        self,
        map_set: MapSet,
        learn: str,
        warn: Callable[[str], object],
        keep_frames: str = "",
        keep_mb: float = 500.0,
    ) -> None:
        self._adapt, self._warn = learn == "adapt", warn
        self._looked = time.monotonic()
        self._healths: dict[str, MapHealth] = {}
        self._submaps = {submap.name: submap for submap in map_set.submaps}
        self._fixed, self._refused = (
            {name: Viewpoints(rest=SAME_VIEW) for name in self._submaps} for _ in range(2)
        )
        self._fits = {
            submap.name: SessionFits(submap.localizer.map.sessions)
            for submap in map_set.submaps
            if self._adapt and len(submap.localizer.map.sessions.every) > 1
        }
        self._keepers: dict[str, FrameKeeper] = {}
        if keep_frames:
            self._keepers = {
                name: FrameKeeper(Path(keep_frames) / name, keep_mb, warn)
                for name in self._submaps
            }
        if learn == "none":
            return
        for submap in map_set.submaps:
            pixmap = submap.localizer.map
            try:
                path = health_path(pixmap.path)
                self._healths[submap.name] = MapHealth(pixmap, path, robot_name())
            except HealthError as error:
                self._warn(f"nothing is learned of {submap.name}: {error}")
        self.look_again()

    @property
    def wanted(self) -> bool:
        """Whether fixes are asked for."""
        return bool(self._healths or self._keepers)

    def add(self, result: LocalizationResult, views: Sequence[View], stamp: float) -> None:
        """A fix, and the views that it comes from."""
        submap = self._submaps[result.map]
        if not self.wanted:
            return
        judgement = judge_points(result, views, submap.localizer.inliers)
        if submap.name in self._keepers:
            self._keepers[submap.name].offer(result, views, judgement, stamp)
        if judgement is not None:
            if self._fixed[submap.name].enter(result.cam_from_map, stamp):
                self._put(submap.name, lambda health: health.add(judgement, stamp))
            self._prefer(submap, judgement)
        if time.monotonic() - self._looked > AGAIN:
            self.look_again()

    def look_again(self) -> None:
        """Go on without the points that are gone by now, where maps are adapted."""
        self._looked = time.monotonic()
        for each in self._submaps.values():
            self._leave_out(each)

    def add_refusal(
        self, result: LocalizationResult, views: Sequence[View], prior: Prior, stamp: float
    ) -> None:
        """An answer that was refused, of views that were expected at a prior."""
        name = result.map or next(iter(self._submaps))
        if name not in self._healths:
            return
        visibility = self._submaps[name].localizer.candidates.visibility
        expected = prior.cam_from_map.to(torch.float64)
        if not self._refused[name].enter(expected, stamp):
            return
        near = visibility.visible_from(expected, views[0].camera, NEAREST)
        self._put(name, lambda health: health.add_refusal(near, stamp))

    def _prefer(self, submap: Submap, judgement: Judgement) -> None:
        """Take references of the sessions that lately matched before others."""
        fits = self._fits.get(submap.name)
        if fits is not None:
            fits.add(judgement)
            submap.localizer.prefer(fits.weights())

    def _put(self, name: str, change: Callable[[MapHealth], object]) -> None:
        health = self._healths.get(name)
        if health is None:
            return
        try:
            change(health)
        except HealthError as error:
            self._warn(f"nothing more is learned of {name}: {error}")
            del self._healths[name]
            health.close()

    def _leave_out(self, submap: Submap) -> None:
        health = self._healths.get(submap.name)
        if not self._adapt or health is None:
            return
        try:
            gone = health.points().gone
        except HealthError as error:
            self._warn(f"{submap.name} is not adapted: {error}")
            return
        if gone.mean() > MOST_GONE:
            self._warn(
                f"{gone.mean():.0%} of the points of {submap.name} are gone: build it again"
            )
            gone = np.zeros(len(gone), bool)
        submap.localizer.leave_out_points(gone)

    def close(self) -> None:
        for health in self._healths.values():
            health.close()
        self._healths.clear()
