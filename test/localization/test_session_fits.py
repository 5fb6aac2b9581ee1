"""Which session of a map the place looks like, by what fixes find."""

from __future__ import annotations

import numpy as np

from pixloc_ros.localization.session_fits import ENOUGH, LEAST, SessionFits
from pixloc_ros.mapping.health import Judgement
from pixloc_ros.mapping.sessions import Session, Sessions

SESSIONS = Sessions((Session("day"), Session("night"), Session("rain")), np.array([0, 0, 1, 2]))


def judged(day, night, count=100):
    """What a fix says that finds these shares of what references 1 and 2 show."""
    shown = np.concatenate([np.arange(count) < day * count, np.arange(count) < night * count])
    by = np.repeat([1, 2], count)
    return Judgement(np.arange(3), np.ones(3, bool), np.array([1, 2]), by, shown)


def test_what_fits_now_comes_first():
    fits = SessionFits(SESSIONS)
    assert fits.weights() is None
    fits.add(judged(0.4, 0.8))
    # of rain nothing is known
    assert fits.weights().tolist() == [0.25, 0.25, 1.0, 1.0]
    fits.add(judged(0.8, 0.8))
    assert 0.25 < fits.weights()[0] < 1


def test_it_follows_the_light():
    fits = SessionFits(SESSIONS)
    for _ in range(50):
        fits.add(judged(0.9, 0.1))
    assert fits.weights().tolist() == [1.0, 1.0, LEAST, 1.0]
    for _ in range(50):
        fits.add(judged(0.2, 0.9))
    assert fits.weights().tolist() == [LEAST, LEAST, 1.0, 1.0]


def test_few_observations_say_nothing():
    fits = SessionFits(SESSIONS)
    fits.add(judged(0.1, 0.9, count=int(ENOUGH) - 1))
    assert fits.weights() is None
