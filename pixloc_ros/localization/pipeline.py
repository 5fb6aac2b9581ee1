"""From the images of a moment to a decision: the one way that node, commands and tests share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from pixloc_ros.geometry import Pose
from pixloc_ros.localization.motion import PoseEstimate
from pixloc_ros.localization.result import LocalizationResult, Prior, Status
from pixloc_ros.localization.tracker import FrameContext, State, Tracker, TrackerOptions
from pixloc_ros.localization.views import View

Localize = Callable[[Sequence[View], Prior | None, str], LocalizationResult]
"""As `MapSet.localize_views`: views, where they are expected, and in which frame."""


class Decision(str, Enum):
    """What becomes of a frame.

    FIX: an estimate that is believed, since it agrees with what was expected. CANDIDATE: an
    estimate that passed all gates and waits for a second one that agrees. REFUSED: no estimate,
    or one that is not believed.
    """

    FIX = "fix"
    CANDIDATE = "candidate"
    REFUSED = "refused"


@dataclass(frozen=True)
class Moment:
    """The images of one moment, and what is known of it besides. views: at least one."""

    observed: FrameContext
    views: Sequence[View]


@dataclass(frozen=True)
class Outcome:
    """What became of a moment.

    estimate: what the images say by themselves, as finally judged. fix: where the robot is
    believed to be, of a FIX only; joined with what was known before. prior: where the first
    camera was expected, or None where it was searched for. state: of the tracker, afterwards.
    """

    decision: Decision
    estimate: LocalizationResult
    fix: PoseEstimate | None
    prior: Prior | None
    state: State


class Pipeline:
    """Priors from the tracker, estimates from `localize`, decisions from the tracker again.

    One thread calls `process`, which may take long; any other may meanwhile ask, hint or reset.
    What was asked of `localize` before a hint or a reset is not wanted any more, and refused.
    """

    def __init__(self, localize: Localize, options: TrackerOptions | None = None) -> None:
        self._localize = localize
        self.tracker = Tracker(options)
        self.reason = ""
        """Why the tracker is in its state, in words; of the last thing that happened."""
        self._lock = threading.Lock()
        self._epoch = 0

    @property
    def state(self) -> State:
        return self.tracker.state

    @property
    def fix(self) -> PoseEstimate | None:
        """Where the robot was at the last fix, while that is believed."""
        return self.tracker.fix

    def holds(self, stamp: float) -> bool:
        """As `Tracker.holds`."""
        with self._lock:
            return self.tracker.holds(stamp)

    def set_options(self, options: TrackerOptions) -> None:
        with self._lock:
            self.tracker.options = options

    def process(self, moment: Moment, search: bool = False) -> Outcome:
        """Localize a moment. search: whatever is known, look everywhere."""
        with self._lock:
            epoch = self._epoch
            prior = None if search else self.tracker.prior(moment.observed)
            frame = self.tracker.frame
        estimate = self._localize(moment.views, prior, frame)
        with self._lock:
            fix = None
            if epoch != self._epoch:
                estimate = replace(estimate, status=Status.REJECTED, reason="no longer asked for")
            else:
                fix, estimate = self.tracker.update(estimate, moment.observed)
                self.reason = estimate.reason
            state = self.tracker.state
        decision = Decision.CANDIDATE if estimate.ok else Decision.REFUSED
        return Outcome(Decision.FIX if fix is not None else decision, estimate, fix, prior, state)

    def refuse(self, stamp: float, odom_from_base: Pose | None, reason: str) -> None:
        """A frame at `stamp`, or the lack of one, says nothing: the robot coasts or is lost."""
        with self._lock:
            self.tracker.refuse(stamp, odom_from_base)
            self.reason = reason

    def hint(self, belief: PoseEstimate) -> None:
        """Somebody says where the robot is."""
        with self._lock:
            self._epoch += 1
            self.tracker.hint(belief)
            self.reason = "somebody said where the robot is"

    def reset(self, reason: str) -> None:
        """Whatever is known or under way is void."""
        with self._lock:
            self._epoch += 1
            self.tracker.reset()
            self.reason = reason

    def forget_odometry(self) -> None:
        """Odometry jumped: what it said before says nothing about the way since."""
        with self._lock:
            self._epoch += 1
            self.tracker.forget_odometry()
