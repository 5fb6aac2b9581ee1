"""Localization over time: which prior a frame gets, and when its answer is a fix."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum

from pixloc_ros.errors import require_range
from pixloc_ros.geometry import Pose
from pixloc_ros.localization.frames import base_covariance, camera_covariance
from pixloc_ros.localization.gating import SURE_FIT
from pixloc_ros.localization.motion import (
    MotionOptions,
    PoseEstimate,
    disagreement,
    intersect,
    propagate,
)
from pixloc_ros.localization.result import LocalizationResult, Prior, Status
from pixloc_ros.localization.viewpoints import of_one_place


class State(str, Enum):
    UNLOCALIZED = "unlocalized"
    RELOCALIZING = "relocalizing"
    TRACKING = "tracking"
    COASTING = "coasting"
    LOST = "lost"


class Event(Enum):
    """What a frame, or somebody, says of where the robot is."""

    CANDIDATE = "an estimate that nothing else speaks for"
    AGREED = "an estimate that agrees with what was expected"
    REFUSED = "no estimate, or one that is not believed"
    EXPIRED = "refused for too long, or contradicted by what is found elsewhere"
    HINTED = "somebody says where the robot is"
    RESET = "the clock jumped, or somebody wants a search"


_S, _E = State, Event
TRANSITIONS: dict[tuple[State, Event], State] = {
    (_S.UNLOCALIZED, _E.CANDIDATE): _S.RELOCALIZING,
    (_S.UNLOCALIZED, _E.REFUSED): _S.UNLOCALIZED,
    (_S.RELOCALIZING, _E.CANDIDATE): _S.RELOCALIZING,
    (_S.RELOCALIZING, _E.AGREED): _S.TRACKING,
    (_S.RELOCALIZING, _E.REFUSED): _S.RELOCALIZING,
    (_S.RELOCALIZING, _E.EXPIRED): _S.UNLOCALIZED,
    (_S.TRACKING, _E.AGREED): _S.TRACKING,
    (_S.TRACKING, _E.REFUSED): _S.COASTING,
    (_S.TRACKING, _E.EXPIRED): _S.LOST,
    (_S.COASTING, _E.AGREED): _S.TRACKING,
    (_S.COASTING, _E.REFUSED): _S.COASTING,
    (_S.COASTING, _E.EXPIRED): _S.LOST,
    (_S.LOST, _E.CANDIDATE): _S.RELOCALIZING,
    (_S.LOST, _E.AGREED): _S.TRACKING,
    (_S.LOST, _E.REFUSED): _S.LOST,
    (_S.LOST, _E.EXPIRED): _S.LOST,
    **{(state, _E.HINTED): _S.RELOCALIZING for state in _S},
    **{(state, _E.RESET): _S.UNLOCALIZED for state in _S},
}
"""The whole state machine. A fix is what AGREED makes; TRACKING and COASTING have one."""

PARTIAL = 0.7
"""Evenness of an image's inliers (`InlierStatistics`) below which parts of it show something else
than the map. Of images of an unchanged place it is above 0.8."""


@dataclass
class TrackerOptions:
    """When estimates over time are believed.

    agreement: standard deviations that an estimate may be from where it is expected.
    weak_agreement: the same for a weak image: parts of it disagree (its evenness is less than
    PARTIAL), or it fits less than SURE_FIT. What was moved agrees with itself, and shows a pose
    that is a little off. Any other image that is further off than that waits for one from another
    place that agrees with it. confirm_m: standard deviation of where it is expected, from which
    on a second estimate must confirm a weak image: it says little to agree with a vague
    expectation.
    lost_after: seconds without an estimate after which the robot is lost; a million leaves
    it to how vague odometry has become. lost_m, lost_deg:
    standard deviations beyond which an expectation says nothing any more (the robot is lost), and
    an estimate is refused. moved_after:
    seconds of estimates that agree with each other and contradict what is expected, after which
    the robot must have been moved.
    gravity_deg: largest angle between down in the map and down in odometry, for maps whose z
    axis points up; 0 does not look. motion: how odometry errs.
    """

    agreement: float = 5.0
    weak_agreement: float = 2.0
    confirm_m: float = 0.1
    lost_after: float = 10.0
    lost_m: float = 1.0
    lost_deg: float = 45.0
    moved_after: float = 2.0
    gravity_deg: float = 0.0
    motion: MotionOptions = field(default_factory=MotionOptions)

    def __post_init__(self) -> None:
        require_range(self, 0.1, 1e6, "agreement", "weak_agreement", "lost_m", "lost_deg")
        require_range(self, 0, 1e6, "confirm_m", "lost_after", "moved_after")
        require_range(self, 0, 180, "gravity_deg")


@dataclass(frozen=True)
class FrameContext:
    """What is known of a frame besides its image.

    stamp: seconds. base_from_cam: extrinsics. odom_from_base: odometry at the stamp, or None.
    """

    stamp: float
    base_from_cam: Pose
    odom_from_base: Pose | None


SECOND = "waiting for a second estimate that agrees"


@dataclass(frozen=True)
class _Comparison:
    """What an estimate is beside what is expected.

    joined: the pose if it is believed. contradiction: how it contradicts, or empty. doubt: what it
    waits for, or empty if it is believed at once. elsewhere: what it waits for must be of another
    place.
    """

    joined: PoseEstimate
    contradiction: str = ""
    doubt: str = SECOND
    elsewhere: bool = False


def _is_apart(before: Pose | None, now: Pose | None) -> bool:
    """Whether the robot, at odom_from_base, is at another place than before."""
    if before is None or now is None:
        return False
    return not bool(of_one_place(before.inverse(), now.inverse()))


class Tracker:
    """Turns single answers into fixes. Feed it `prior`, then `update`, frame by frame."""

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self.options = options or TrackerOptions()
        self.state = State.UNLOCALIZED
        # stamp at which something last spoke for what is known
        self._heard = -math.inf
        self._forget()

    def _forget(self) -> None:
        self.fix: PoseEstimate | None = None
        # a fix or a hint, carried on frame by frame: a loop adds to what odometry errs
        self._known: PoseEstimate | None = None
        self._candidate: PoseEstimate | None = None
        # the first of the candidates that agree with each other
        self._first: PoseEstimate | None = None

    def _enter(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]

    def reset(self) -> None:
        """Forget everything, as after a jump of the clock."""
        self._forget()
        self._enter(Event.RESET)

    def hint(self, belief: PoseEstimate) -> None:
        """Somebody says where the robot is: search there first, and believe what agrees."""
        self._forget()
        self._known, self._heard = belief, belief.stamp
        self._enter(Event.HINTED)

    def forget_odometry(self) -> None:
        """Odometry jumped: what it said before says nothing about the way since."""
        self.fix, self._known, self._candidate, self._first = (
            None if belief is None else replace(belief, odom_from_base=None)
            for belief in (self.fix, self._known, self._candidate, self._first)
        )

    def holds(self, stamp: float) -> bool:
        """Whether the fix still says something at a stamp, had the robot no odometry since."""
        if self.fix is None or stamp - self._heard > self.options.lost_after:
            return False
        return not self._is_vague(propagate(self.fix, stamp, None, self.options.motion))

    @property
    def frame(self) -> str:
        """The frame in which the robot is expected, where that is known."""
        return "" if self._known is None else self._known.frame

    def prior(self, frame: FrameContext) -> Prior | None:
        """Where the camera should be now, or None when it must be searched for."""
        if self._known is None:
            return None
        expected = self._expected(self._known, frame)
        cam_from_map = (expected.map_from_base @ frame.base_from_cam).inverse()
        covariance = camera_covariance(expected.covariance, cam_from_map, frame.base_from_cam)
        return Prior(cam_from_map, covariance)

    def update(
        self, result: LocalizationResult, frame: FrameContext
    ) -> tuple[PoseEstimate | None, LocalizationResult]:
        """The fix that follows from an answer, if any, and the answer as finally judged."""
        if not result.ok:
            self.refuse(frame.stamp, frame.odom_from_base)
            return None, result
        found = PoseEstimate(
            frame.stamp,
            (frame.base_from_cam @ result.cam_from_map).inverse(),
            base_covariance(result.covariance, result.cam_from_map, frame.base_from_cam),
            frame.odom_from_base,
            frame=result.frame,
        )
        reason = self._vague(found) or self._tilt(found)
        if reason:
            self.refuse(frame.stamp, frame.odom_from_base)
            return None, replace(result, status=Status.REJECTED, reason=reason)
        weak = result.statistics.evenness < PARTIAL or result.statistics.fit < SURE_FIT
        limit = self.options.weak_agreement if weak else self.options.agreement
        seen = self._compare(found, frame, weak, limit)
        # what alignment made of a wrong expectation may be no more than a bad start
        usable = not (seen.contradiction and result.from_prior)
        confirmed = usable and self._confirm(found, frame, limit, seen.elsewhere)
        if not seen.doubt or (confirmed and not (seen.contradiction and self.fix)):
            return self._believe(seen.joined), result
        if self.fix is not None:
            self.refuse(frame.stamp, frame.odom_from_base)
            reason = seen.contradiction or seen.doubt
            return None, replace(result, status=Status.REJECTED, reason=reason)
        self._heard = frame.stamp if self._known is None else self._heard
        self._enter(Event.CANDIDATE)
        return None, replace(result, reason=seen.doubt)

    def _compare(
        self, found: PoseEstimate, frame: FrameContext, weak: bool, limit: float
    ) -> _Comparison:
        """An estimate beside where the robot is expected. limit: standard deviations."""
        if self._known is None:
            return _Comparison(found)  # the first fix takes two
        options = self.options
        expected = self._expected(self._known, frame)
        contradiction = self._contradiction(expected, found, limit)
        if contradiction:
            return _Comparison(found, contradiction)
        doubt = ""
        if weak and expected.sigma_m > options.confirm_m:
            place = f"where the place is known only to {expected.sigma_m:.2f} m"
            doubt = f"not enough of the image agrees {place}: {SECOND}"
        if self.fix is None:
            return _Comparison(found, doubt=doubt)
        far = self._contradiction(expected, found, options.weak_agreement)
        if far and self._known.odom_from_base is not None and found.odom_from_base is not None:
            doubt = f"{far}: waiting for one from another place that agrees"
            # if it is confirmed, what was expected erred by that much
            sigmas, _, _ = disagreement(expected, found, options.motion)
            expected = replace(expected, covariance=expected.covariance * sigmas**2)
            return _Comparison(intersect(expected, found), doubt=doubt, elsewhere=True)
        return _Comparison(intersect(expected, found), doubt=doubt)

    def refuse(self, stamp: float, odom_from_base: Pose | None = None) -> None:
        """A frame at `stamp` (seconds) gave no believable answer."""
        known = self._known or self._candidate
        if known is None:
            self._enter(Event.REFUSED)
            return
        options = self.options
        expected = propagate(known, stamp, odom_from_base, options.motion)
        if self._known is not None and expected.odom_from_base is not None:
            self._known = expected
        late = stamp - self._heard > options.lost_after
        vague = self._is_vague(expected)
        # the last of the estimates that agree: mere time speaks for nothing
        candidate, first = self._candidate, self._first
        moved = False
        if self.fix is not None and candidate is not None and first is not None:
            moved = candidate.stamp - first.stamp >= options.moved_after
        if not (late or vague or moved):
            self._enter(Event.REFUSED)
            return
        self._forget()
        if moved:
            assert candidate is not None
            self._candidate, self._first, self._heard = candidate, first, candidate.stamp
        self._enter(Event.EXPIRED)

    def _believe(self, found: PoseEstimate) -> PoseEstimate:
        self._forget()
        self._enter(Event.AGREED)
        self.fix = self._known = found
        self._heard = found.stamp
        return found

    def _confirm(
        self, found: PoseEstimate, frame: FrameContext, limit: float, elsewhere: bool
    ) -> bool:
        """Whether an estimate agrees with the candidate before it, whose place it takes.

        elsewhere: it must also be of another place than the first of those that agreed, or much
        later: the same view says the same once more.
        """
        before, self._candidate = self._candidate, found
        if before is None or self._contradiction(self._expected(before, frame), found, limit):
            self._first = found
            return False
        first = self._first
        assert first is not None  # as long as there is a candidate
        late = found.stamp - first.stamp >= self.options.moved_after
        return not elsewhere or late or _is_apart(first.odom_from_base, found.odom_from_base)

    def _expected(self, known: PoseEstimate, frame: FrameContext) -> PoseEstimate:
        return propagate(known, frame.stamp, frame.odom_from_base, self.options.motion)

    def _contradiction(self, expected: PoseEstimate, found: PoseEstimate, limit: float) -> str:
        """Why two estimates are more than a limit of standard deviations apart, or nothing."""
        if expected.frame != found.frame:
            return f"in {found.frame}, but expected in {expected.frame}"
        sigmas, metres, degrees = disagreement(expected, found, self.options.motion)
        if sigmas <= limit:
            return ""
        return (
            f"{metres:.2f} m and {degrees:.0f} deg from where it was expected, "
            f"{sigmas:.0f} standard deviations"
        )

    def _is_vague(self, belief: PoseEstimate) -> bool:
        options = self.options
        return belief.sigma_m > options.lost_m or belief.sigma_deg > options.lost_deg

    def _vague(self, found: PoseEstimate) -> str:
        if not self._is_vague(found):
            return ""
        return (
            f"too vague: standard deviations of {found.sigma_m:.2f} m and "
            f"{found.sigma_deg:.0f} deg"
        )

    def _tilt(self, found: PoseEstimate) -> str:
        if not self.options.gravity_deg or found.odom_from_base is None:
            return ""
        up = (found.map_from_base.rotation[2] * found.odom_from_base.rotation[2]).sum()
        degrees = math.degrees(math.acos(float(up.clamp(-1, 1))))
        if degrees <= self.options.gravity_deg:
            return ""
        return f"tilted by {degrees:.0f} deg against the gravity of odometry"
