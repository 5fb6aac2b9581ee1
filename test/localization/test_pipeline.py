"""What becomes of a moment: decisions, and what happens while one is worked on."""

from __future__ import annotations

import pytest
from test_tracker import answer, driven, observed, refused

from pixloc_ros.localization import Decision, Moment, Pipeline, PoseEstimate, State, TrackerOptions


class Told:
    """Answers one after the other, and what was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []
        self.meanwhile = lambda: None

    def __call__(self, views, prior, frame):
        self.asked.append((prior, frame))
        self.meanwhile()
        return self.answers.pop(0)


def moment(stamp):
    return Moment(observed(stamp), ())


def test_decisions_and_priors():
    told = Told(answer(0.0), answer(0.1), refused(), answer(0.3, offset=3.0, from_prior=True))
    pipeline = Pipeline(told)
    first, second, third, fourth = (pipeline.process(moment(s)) for s in (0.0, 0.1, 0.2, 0.3))
    assert [o.decision for o in (first, second, third, fourth)] == [
        Decision.CANDIDATE, Decision.FIX, Decision.REFUSED, Decision.REFUSED,
    ]  # fmt: skip
    assert [o.fix is not None for o in (first, second, third)] == [False, True, False]
    assert first.estimate.ok  # it stands, but is not believed yet
    assert not fourth.estimate.ok
    assert "from where it was expected" in fourth.estimate.reason == pipeline.reason
    assert [prior is None for prior, _ in told.asked] == [True, True, False, False]
    assert [o.state for o in (first, second, third)] == [
        State.RELOCALIZING, State.TRACKING, State.COASTING,
    ]  # fmt: skip


def test_a_search_asks_without_a_prior():
    told = Told(answer(0.0), answer(0.1), answer(0.2))
    pipeline = Pipeline(told)
    for stamp in (0.0, 0.1):
        pipeline.process(moment(stamp))
    assert pipeline.process(moment(0.2), search=True).decision is Decision.FIX
    assert told.asked[-1][0] is None


@pytest.mark.parametrize("event", ["reset", "hint", "odometry"])
def test_what_was_asked_before_is_not_wanted_any_more(event):
    told = Told(answer(0.0), answer(0.1), answer(0.2))
    pipeline = Pipeline(told)
    for stamp in (0.0, 0.1):
        pipeline.process(moment(stamp))
    fix = pipeline.fix
    happens = {
        "reset": lambda: pipeline.reset("the clock jumped"),
        "hint": lambda: pipeline.hint(
            PoseEstimate(0.2, fix.map_from_base, fix.covariance, driven(0.2))
        ),
        "odometry": pipeline.forget_odometry,
    }
    told.meanwhile = happens[event]
    outcome = pipeline.process(moment(0.2))
    assert outcome.decision is Decision.REFUSED
    assert outcome.estimate.reason == "no longer asked for"
    assert (pipeline.fix is not None) == (event == "odometry")


def test_silence_coasts_and_says_why():
    pipeline = Pipeline(Told(answer(0.0), answer(0.1)), TrackerOptions(lost_after=5.0))
    for stamp in (0.0, 0.1):
        pipeline.process(moment(stamp))
    pipeline.refuse(1.0, driven(1.0), "no image for 0.9 s")
    assert (pipeline.state, pipeline.reason) == (State.COASTING, "no image for 0.9 s")
    pipeline.set_options(TrackerOptions(lost_after=0.5))
    pipeline.refuse(2.0, driven(2.0), "no image for 1.9 s")
    assert pipeline.state is State.LOST
    assert pipeline.fix is None
