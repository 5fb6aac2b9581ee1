"""Localization over time: which prior a frame gets, and when its answer is a fix.

state         a frame starts from   accepted                     refused
UNLOCALIZED   retrieval             -> RELOCALIZING (candidate)  stays
RELOCALIZING  retrieval             agrees: fix, -> TRACKING     -> UNLOCALIZED or LOST
                                    else: the new candidate
TRACKING      last fix + odometry   fix                          -> COASTING
COASTING      last fix + odometry   fix, -> TRACKING             -> LOST after a while
LOST          retrieval             -> RELOCALIZING (candidate)  stays
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum

import torch
from torch import Tensor

from pixloc_ros.errors import require_range
from pixloc_ros.geometry import Pose
from pixloc_ros.localization.frames import base_covariance
from pixloc_ros.localization.result import LocalizationResult, Prior, Status


class State(str, Enum):
    UNLOCALIZED = "unlocalized"
    RELOCALIZING = "relocalizing"
    TRACKING = "tracking"
    COASTING = "coasting"
    LOST = "lost"


@dataclass
class TrackerOptions:
    """When estimates over time are believed.

    agreement_m, agreement_deg: how far an estimate may be from where odometry carried the
    last one. max_speed, max_turn_deg: metres and degrees a second that replace odometry where
    there is none. lost_after: seconds of refusals after which the robot is lost.
    """

    agreement_m: float = 0.5
    agreement_deg: float = 10.0
    max_speed: float = 2.0
    max_turn_deg: float = 90.0
    lost_after: float = 2.0

    def __post_init__(self) -> None:
        require_range(self, 0, 1e6, *(f.name for f in fields(self)))


@dataclass(frozen=True)
class Observed:
    """What is known of a frame besides its image.

    stamp: seconds. base_from_cam: extrinsics. odom_from_base: odometry at the stamp, or None.
    """

    stamp: float
    base_from_cam: Pose
    odom_from_base: Pose | None


@dataclass(frozen=True)
class Fix:
    """A pose that is believed.

    map_from_base: at `stamp`. covariance: (6, 6), ROS order, map axes. map_from_odom: None
    without odometry.
    """

    stamp: float
    map_from_base: Pose
    covariance: Tensor
    map_from_odom: Pose | None
    odom_from_base: Pose | None


class Tracker:
    """Turns single answers into fixes. Feed it `prior`, then `update`, frame by frame."""

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self.options = options or TrackerOptions()
        self.reset()

    def reset(self) -> None:
        """Forget everything, as after a jump of the clock."""
        self.state = State.UNLOCALIZED
        self.fix: Fix | None = None
        self._candidate: Fix | None = None

    def prior(self, frame: Observed) -> Prior | None:
        """Where the camera should be now, or None when it must be searched for."""
        if self.fix is None or self.state not in (State.TRACKING, State.COASTING):
            return None
        predicted = self._carry(self.fix, frame)
        return Prior((predicted @ frame.base_from_cam).inverse())

    def update(
        self, result: LocalizationResult, frame: Observed
    ) -> tuple[Fix | None, LocalizationResult]:
        """The fix that follows from an answer, if any, and the answer as finally judged."""
        if not result.ok:
            self.refuse(frame.stamp)
            return None, result
        estimate = self._estimate(result, frame)
        if self.state in (State.TRACKING, State.COASTING):
            assert self.fix is not None
            reason = self._disagreement(self.fix, estimate, frame)
            if reason:
                self.refuse(frame.stamp)
                return None, replace(result, status=Status.REJECTED, reason=reason)
            self.state, self.fix = State.TRACKING, estimate
            return estimate, result
        previous, self._candidate = self._candidate, estimate
        if previous is None or self._disagreement(previous, estimate, frame):
            self.state = State.RELOCALIZING
            return None, replace(result, reason="waiting for a second estimate that agrees")
        self.state, self.fix, self._candidate = State.TRACKING, estimate, None
        return estimate, result

    def refuse(self, stamp: float) -> None:
        """A frame at `stamp` (seconds) gave no believable answer."""
        self._candidate = None
        if self.fix is None:
            self.state = State.UNLOCALIZED
        elif self.state in (State.TRACKING, State.COASTING):
            late = stamp - self.fix.stamp > self.options.lost_after
            self.state = State.LOST if late else State.COASTING
        else:
            self.state = State.LOST

    def _estimate(self, result: LocalizationResult, frame: Observed) -> Fix:
        map_from_base = (frame.base_from_cam @ result.cam_from_map).inverse()
        odometry = frame.odom_from_base
        return Fix(
            stamp=frame.stamp,
            map_from_base=map_from_base,
            covariance=base_covariance(
                result.covariance, result.cam_from_map, frame.base_from_cam
            ),
            map_from_odom=None if odometry is None else map_from_base @ odometry.inverse(),
            odom_from_base=odometry,
        )

    @staticmethod
    def _carry(fix: Fix, frame: Observed) -> Pose:
        """The base pose of a fix carried to a frame by odometry, or left where it was."""
        if fix.map_from_odom is None or frame.odom_from_base is None:
            return fix.map_from_base
        return fix.map_from_odom @ frame.odom_from_base

    def _disagreement(self, before: Fix, now: Fix, frame: Observed) -> str:
        options = self.options
        metres_allowed, degrees_allowed = options.agreement_m, options.agreement_deg
        if before.map_from_odom is None or frame.odom_from_base is None:
            elapsed = max(now.stamp - before.stamp, 0.0)
            metres_allowed += options.max_speed * elapsed
            degrees_allowed += options.max_turn_deg * elapsed
        metres, radians = (
            self._carry(before, frame).inverse().distance(now.map_from_base.inverse())
        )
        degrees = float(torch.rad2deg(radians))
        if float(metres) <= metres_allowed and degrees <= degrees_allowed:
            return ""
        return f"{float(metres):.2f} m and {degrees:.0f} deg from where motion allows"
