"""A node that keeps what it did."""

from __future__ import annotations

import resource

import pytest

from pixloc_ros.datasets.rendered_room import base_pose, mount
from pixloc_ros.localization import RunFile


def room_truth(harness, number):
    """cam_from_map of a frame, from where the robot was and how the camera is mounted."""
    stamp = harness.robot.frames[number].stamp
    return (base_pose(stamp - 100.0, 1.0) @ mount()).inverse()


def test_what_the_node_did_is_kept(start_harness, tmp_path):
    path = tmp_path / "drive.pixrun"
    path.write_text("an earlier recording")
    harness = start_harness(record=str(path))
    robot = harness.robot
    for number in (0, 2, 4):
        harness.step(number)
    harness.wait(lambda: len(robot.poses) == 2)
    run_path = tmp_path / "drive-1.pixrun"
    with RunFile(run_path) as run:  # while the node goes on
        harness.wait(lambda: run.refresh() == 3)
        frames = [run[i] for i in range(3)]
    assert path.read_text() == "an earlier recording"
    # one estimate is no fix
    assert [frame.prior is None for frame in frames] == [True, True, False]
    assert [frame.stamp for frame in frames] == pytest.approx(
        [robot.frames[number].stamp for number in (0, 2, 4)], abs=1e-3
    )
    assert [frame.decision.value for frame in frames] == ["candidate", "fix", "fix"]
    for frame, number in zip(frames, (0, 2, 4), strict=True):
        assert len(frame.trace) > 1
        metres, _ = frame.cam_from_map.distance(room_truth(harness, number))
        assert float(metres) < 0.03


def test_a_full_disk_ends_the_recording_only(start_harness, tmp_path):
    harness = start_harness(record=str(tmp_path / "drive.pixrun"))
    robot = harness.robot

    # the process may not write any more, as where a disk is full
    resource.prlimit(harness.node.configured.process.pid, resource.RLIMIT_FSIZE, (1, 1))
    for number in (0, 2, 4):
        harness.step(number)
    harness.wait(lambda: len(robot.poses) == 2)
    assert harness.node.configured.facts.record == ""
