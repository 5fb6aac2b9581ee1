"""Which stamps of a recording cannot be right."""

from __future__ import annotations

import pytest

from pixloc_ros.datasets.bag_stamps import StampGuard

BACK, AHEAD, NONE = (
    "after a clock that went back",
    "with a stamp of another time",
    "without a stamp",
)


def problems(stamps, recorded=None):
    guard = StampGuard()
    times = recorded or range(len(stamps))
    return [
        guard.problem(round(stamp * 1e9), round(time * 1e9))
        for stamp, time in zip(stamps, times, strict=True)
    ]


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([100, 101, 102], ["", "", ""]),
        ([100, 99.5, 101], ["", "", ""]),  # two publishers, not quite in order
        ([0, 100, -1, 101], [NONE, "", NONE, ""]),
        ([100, 101, 50, 51, 102], ["", "", BACK, BACK, ""]),
        ([100, 101, 9e8, 102, 103], ["", "", AHEAD, "", ""]),  # one glitch costs itself
        ([9e8, 100, 101, 102], ["", "", "", ""]),  # and so does the first
        ([100, 101, 5000, 5001, 5002], ["", "", AHEAD, "", ""]),  # a clock that was set
        ([100, 101, 9e8, 7e8, 102], ["", "", AHEAD, AHEAD, ""]),
    ],
)
def test_stamps(stamps, expected):
    assert problems(stamps) == expected


def test_a_pause_of_the_recording_is_none_of_the_clock():
    assert problems([100, 101, 900], [100, 101, 900]) == ["", "", ""]
    # nor is a simulation that runs slower than the recording
    assert problems([7, 7.5, 30], [1000, 1005, 1230]) == ["", "", ""]
