from __future__ import annotations

import threading
import time

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry

from pixloc_ros.geometry import Pose
from pixloc_ros.localization import (
    Decision,
    LocalizationResult,
    Outcome,
    PoseEstimate,
    State,
    Status,
)
from pixloc_ros.ros.arrivals import Arrivals
from pixloc_ros.ros.conversions import time_message
from pixloc_ros.ros.diagnostics import Journal, frame_status, input_status, localization_status
from pixloc_ros.ros.odometry import OdometryBuffer
from pixloc_ros.ros.worker import Mailbox, Worker


def odometry(stamp, x, child="base_link"):
    message = Odometry(child_frame_id=child)
    message.header.stamp = time_message(stamp)
    message.pose.pose.position.x = x
    return message


@pytest.fixture
def buffer():
    buffer = OdometryBuffer("odom", "base_link", 20.0)
    for i in range(5):
        buffer.add(odometry(i * 0.1, float(i)))
    return buffer


def x_of(pose):
    return float(pose.translation[0])


def test_odometry_is_interpolated(buffer):
    assert x_of(buffer.at(0.25, 0.0)) == pytest.approx(2.5)
    assert x_of(buffer.at(0.4, 0.0)) == pytest.approx(4.0)


def test_odometry_out_of_reach_is_none(buffer):
    assert buffer.at(-0.1, 0.0) is None
    assert buffer.at(0.5, 0.01) is None
    assert OdometryBuffer("odom", "base_link", 20.0).at(0.0, 5.0) is None  # without waiting


def test_odometry_is_waited_for(buffer):
    threading.Timer(0.1, lambda: buffer.add(odometry(0.6, 6.0))).start()
    assert x_of(buffer.at(0.5, 5.0)) == pytest.approx(5.0)


@pytest.mark.parametrize(("metres", "jumps"), [(2.4, False), (3.0, True), (-3.0, True)])
def test_more_than_the_robot_can_drive_is_a_jump(metres, jumps):
    """At 20 m/s it drives 2 m in a tenth of a second, and half a metre is let pass."""
    told = []
    buffer = OdometryBuffer("odom", "base_link", 20.0, told.append)
    buffer.add(odometry(0.0, 0.0))
    buffer.add(odometry(0.1, metres))
    assert bool(told) == jumps
    assert (buffer.at(0.0, 0.0) is None) == jumps


def test_a_frame_that_is_no_fix_is_a_warning():
    refused = LocalizationResult(Status.REJECTED, "few inliers")
    outcome = Outcome(Decision.REFUSED, refused, None, None, State.COASTING)
    status = frame_status("pixloc", 1.5, outcome, 12.0)
    assert status.level == DiagnosticStatus.WARN
    assert "few inliers" in status.message
    eye = torch.eye(6, dtype=torch.float64)
    fix = PoseEstimate(1.5, Pose.identity(dtype=torch.float64), eye, None)
    found = Outcome(Decision.FIX, refused, fix, None, State.TRACKING)
    assert frame_status("pixloc", 1.5, found, 12.0).level == DiagnosticStatus.OK


def test_late_odometry_is_put_in_its_place(buffer):
    buffer.add(odometry(0.25, 9.0))
    assert x_of(buffer.at(0.25, 0.0)) == pytest.approx(9.0)


def test_odometry_of_another_frame_is_refused(buffer):
    buffer.add(odometry(0.5, 5.0, child="wheel"))
    assert "'wheel'" in buffer.problem
    assert buffer.at(0.5, 0.0) is None
    buffer.add(odometry(0.5, float("nan")))
    assert "not finite" in buffer.problem
    buffer.add(odometry(0.5, 5.0, child="/base_link"))
    assert buffer.problem == ""


def test_a_clock_that_goes_back_starts_over(buffer):
    for i in range(200):
        buffer.add(odometry(100 + 0.1 * i, 0.0))
    buffer.add(odometry(1.0, 1.0))
    buffer.add(odometry(1.1, 2.0))
    assert x_of(buffer.at(1.05, 0.0)) == pytest.approx(1.5)


def test_mailbox_keeps_the_newest_and_counts_the_rest():
    box = Mailbox()
    for i in range(4):
        box.put(i)
    assert (box.take(), box.received, box.dropped) == (3, 4, 3)
    box.put(9)
    box.clear()
    box.close()
    assert box.take() is None


def test_worker_survives_what_a_frame_raises():
    done, failed = [], []

    def work(item):
        if item == "bad":
            raise RuntimeError("broken")
        done.append(item)

    worker = Worker(work, failed.append)
    for item in ("bad", "good"):
        worker.mailbox.put(item)
        for _ in range(200):
            if len(done) + len(failed) == (1 if item == "bad" else 2):
                break
            time.sleep(0.01)
    worker.stop()
    assert done == ["good"]
    assert [str(e) for e in failed] == ["broken"]
    worker.mailbox.put("late")
    assert done == ["good"]


def test_diagnostics_levels():
    journal = Journal()
    status = localization_status("pixloc", State.UNLOCALIZED, "", journal)
    assert status.level == b"\x01"
    for milliseconds in range(100):
        journal.finished(float(milliseconds), True)
    status = localization_status("pixloc", State.TRACKING, "aligned", journal)
    assert status.level == b"\x00"
    values = {v.key: v.value for v in status.values}
    assert values["latency_p50_ms"] == "49.5"
    assert values["fixes"] == "100"
    journal.failed("camera_info: K is zero")
    status = localization_status("pixloc", State.TRACKING, "aligned", journal)
    assert status.level == b"\x02"
    assert "K is zero" in status.message
    journal.finished(1.0, True)
    assert localization_status("pixloc", State.TRACKING, "aligned", journal).level == b"\x00"
    assert localization_status("pixloc", State.LOST, "refused", journal).level == b"\x02"
    assert status.hardware_id


def test_input_says_the_true_cause(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("pixloc_ros.ros.arrivals.time.monotonic", lambda: now[0])
    arrivals = Arrivals()

    def said(problem=""):
        status = input_status("pixloc", arrivals, 0, problem)
        values = {v.key: v.value for v in status.values}
        return status.level, status.message, values

    assert said()[:2] == (b"\x01", "no images arrive")
    for _ in range(3):  # one in two and a half seconds
        arrivals.add("", 0.1)
        now[0] += 2.5
        assert said()[0] == b"\x00"
    level, message, values = said()
    assert (level, message) == (b"\x00", "images at 0.4 Hz")
    assert values["delay_s"] == "0.100"
    arrivals.add("images have a stamp of zero")
    level, message, values = said()
    assert (level, message) == (b"\x01", "images have a stamp of zero")
    assert values["delay_s"] == "unknown"  # not 56 years
    assert "wheel" in said("odometry of 'wheel'")[1]
    now[0] += 6.0
    assert said()[1] == "no images arrive"
