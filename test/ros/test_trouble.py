"""What a robot meets: carried off, in the dark, in another place, with a clock that jumps."""

from __future__ import annotations

import array
import math
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rclpy
import torch
from geometry_msgs.msg import PoseWithCovarianceStamped
from harness import Robot
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from pixloc_ros.datasets.rendered_room import base_pose, mount
from pixloc_ros.geometry import Pose
from pixloc_ros.ros.conversions import pose_from_message, time_message, transform_stamped

SLOW = "motion.max_speed=0.1, motion.max_turn_deg=1.0"


def off(message, lap):
    """Metres and degrees of a published pose from a place on the lap."""
    found = pose_from_message(message.pose.pose).inverse()
    metres, radians = found.distance(base_pose(lap, 1.0).inverse())
    return float(metres), math.degrees(float(radians))


def test_a_robot_that_is_carried_off_is_found_again(start_harness):
    """Odometry stood still meanwhile: nothing wrong is said, then the new place."""
    harness = start_harness(tracker="[moved_after=0.25]")
    robot = harness.robot
    for number in (0, 2):
        harness.step(number)
    harness.wait(lambda: robot.poses)
    robot.poses.clear()
    for number in range(3, 10):
        harness.step(number, image=robot.seen_from(6.0, robot.frames[number].stamp))
        if robot.poses:
            break
    time.sleep(0.3)
    assert robot.poses
    for message in robot.poses:
        metres, degrees = off(message, 6.0)
        assert metres < 0.03
        assert degrees < 0.5
    last = {value.key: value.value for value in robot.statuses[-1].values}
    assert last["state"] == "tracking"
    reasons = " ".join(s.message for s in robot.statuses)
    assert "from where it was expected" in reasons


def test_darkness_is_coasted_through(start_harness):
    harness = start_harness()
    robot = harness.robot
    for number in (0, 1):
        harness.step(number)
    harness.wait(lambda: robot.transforms)
    for number in (2, 3, 4):
        dark = robot.picture(number)
        dark.data = array.array("B", bytes(len(dark.data)))
        harness.step(number, image=dark)
        assert harness.node.tracker.state.value == "coasting"
    robot.transforms.clear()
    time.sleep(0.3)
    assert robot.transforms  # odometry carries the robot
    assert len(robot.poses) == 1
    harness.step(6)  # one frame is enough: it agrees with what was expected
    harness.wait(lambda: len(robot.poses) == 2)
    assert off(robot.poses[1], robot.frames[6].stamp - 100.0) < (0.03, 0.5)


def test_in_another_place_nothing_is_said(start_harness):
    harness = start_harness()
    robot = harness.robot
    for number in range(6):
        stamp = robot.frames[number].stamp
        harness.step(number, image=robot.seen_from(0.5 * number, stamp, seed=99))
    time.sleep(0.3)
    assert robot.poses == []
    assert robot.transforms == []
    assert harness.node.tracker.state.value in ("unlocalized", "relocalizing")


def test_a_recording_that_starts_again(start_harness):
    """Simulated time goes back: what was known is void, and the drive is localized anew."""
    harness = start_harness(use_sim_time=True, tracker=f"[{SLOW}]")
    robot = harness.robot
    clock = robot.create_publisher(Clock, "/clock", 10)
    harness.wait(clock.get_subscription_count)
    now, stop = [100.0], threading.Event()

    def tick():
        while not stop.wait(0.01):
            now[0] += 0.002
            clock.publish(Clock(clock=time_message(now[0])))

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        for lap in range(2):
            harness.wait(lambda: harness.node.tracker.state.value == "unlocalized")
            robot.poses.clear()
            for number in (0, 2, 4):
                now[0] = max(now[0], robot.frames[number].stamp + 0.05)
                time.sleep(0.1)
                harness.step(number)
            harness.wait(lambda: robot.poses)
            for message in robot.poses:
                stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
                assert off(message, stamp - 100.0) < (0.03, 0.5)
            if lap == 0:
                now[0] = 99.0
                harness.wait(lambda: harness.node.tracker.fix is None)
    finally:
        stop.set()
        thread.join()


def test_odometry_that_stops_leaves_poses_but_soon_no_transform(start_harness):
    harness = start_harness(tracker="[lost_m=100.0, lost_deg=170.0]")
    robot = harness.robot
    for number in (0, 2):
        harness.step(number)
    harness.wait(lambda: robot.transforms)
    for number in (5, 8):
        harness.step(number, odometry=False)
    harness.wait(lambda: len(robot.poses) == 3)
    for message, number in zip(robot.poses, (2, 5, 8), strict=True):
        assert off(message, robot.frames[number].stamp - 100.0) < (0.03, 0.5)
    time.sleep(0.2)
    robot.transforms.clear()
    time.sleep(0.3)
    assert robot.transforms == []


def test_covariances_grow_on_the_way_and_not_the_answers(start_harness):
    """Each answer has its own: odometry's drift is not in it."""
    harness = start_harness()
    for number in (0, 1, 2, 9):
        harness.step(number)
    harness.wait(lambda: len(harness.robot.poses) == 3)
    sigmas = [
        torch.tensor(list(m.pose.covariance)).reshape(6, 6).diagonal().sqrt()
        for m in harness.robot.poses
    ]
    assert max(float(s[:3].max()) for s in sigmas) < 0.1


def test_another_floor_is_another_frame(start_harness, two_maps):
    """The robot takes the lift: lost, then found in the other map, whose frame its poses name."""
    harness = start_harness(map=two_maps, tracker="['lost_after=0.2']")
    for number in range(3):
        harness.step(number)
    harness.wait(lambda: len(harness.robot.poses) >= 2)
    assert {pose.header.frame_id for pose in harness.robot.poses} == {"here"}
    assert harness.status()["map"] == "room"
    harness.robot.poses.clear()
    for number in range(3, 10):
        stamp = harness.robot.frames[number].stamp
        harness.step(number, image=harness.robot.seen_from(stamp - 100.0, stamp, seed=11))
    harness.wait(lambda: harness.robot.poses)
    assert {pose.header.frame_id for pose in harness.robot.poses} == {"there"}
    truth = base_pose(harness.robot.frames[9].stamp - 100.0, 1.0).translation
    where = harness.robot.poses[-1].pose.pose.position
    assert np.allclose([where.x, where.y, where.z], truth, atol=0.05)
    # the map that is shown is the one that the robot is in
    harness.wait(lambda: harness.robot.clouds[-1].header.frame_id == "there")
    harness.wait(
        lambda: any("map" in d.name and "2 maps" in d.message for d in harness.robot.diagnostics)
    )


def said_of(robot, task):
    return [s for s in robot.diagnostics if s.name.endswith(f": {task}")]


def test_images_without_a_stamp_are_no_moment(start_harness):
    """Neither mounts nor odometry can be looked up then; the driver is named as the cause."""
    harness = start_harness()
    robot = harness.robot
    unstamped = robot.picture(0)
    unstamped.header.stamp = time_message(0.0)
    harness.step(0, image=unstamped)
    harness.wait(lambda: any("stamp of zero" in s.message for s in said_of(robot, "input")))
    harness.wait(lambda: any("stamp of zero" in s.message for s in said_of(robot, "localization")))
    assert robot.poses == []
    for number in (1, 2):
        harness.step(number)
    harness.wait(lambda: robot.poses)


def test_simulated_time_that_nobody_gives_is_said(start_harness):
    harness = start_harness(use_sim_time=True)
    robot = harness.robot
    harness.wait(lambda: any("/clock" in s.message for s in said_of(robot, "input")))
    clock = robot.create_publisher(Clock, "/clock", 10)
    harness.wait(clock.get_subscription_count)
    clock.publish(Clock(clock=time_message(100.0)))
    time.sleep(0.1)
    robot.diagnostics.clear()
    harness.wait(lambda: said_of(robot, "input"))
    assert "/clock" not in said_of(robot, "input")[-1].message


def test_frames_with_a_slash_are_those_without(start_harness):
    harness = start_harness(
        base_frame_id="/base_link", odom_frame_id="/odom", global_frame_id="/map"
    )
    robot = harness.robot
    for number in (0, 1):
        image = robot.picture(number)
        image.header.frame_id = "/" + image.header.frame_id
        harness.step(number, image=image)
    harness.wait(lambda: robot.poses and robot.transforms)
    assert robot.poses[0].header.frame_id == "map"
    assert robot.transforms[0].child_frame_id == "odom"


def test_a_camera_of_which_nothing_is_known_is_said(start_harness):
    """Images come, only no camera_info: not "no images"."""
    harness = start_harness()
    robot = harness.robot
    robot.image.publish(robot.picture(0))
    harness.wait(lambda: any("no camera_info" in s.message for s in said_of(robot, "input")))


def test_a_network_that_is_killed_costs_a_moment(start_harness):
    """The node stays up and says it, the robot coasts, and the next fix is right."""
    harness = start_harness(tracker="[lost_after=30.0]")
    robot = harness.robot
    for number in (0, 2):
        harness.step(number)
    harness.wait(lambda: len(robot.poses) == 1 and robot.transforms)
    os.kill(harness.node.configured.process.pid, signal.SIGKILL)
    robot.diagnostics.clear()
    harness.step(3)
    assert harness.node.tracker.state.value == "coasting"
    sent = len(robot.transforms)
    harness.wait(lambda: len(robot.transforms) > sent + 3)  # meanwhile too
    harness.wait(lambda: any("was killed" in s.message for s in robot.diagnostics))
    harness.wait(lambda: harness.node.configured.process.pid is not None)
    harness.step(4)
    harness.wait(lambda: len(robot.poses) == 2)
    error = (
        pose_from_message(robot.poses[-1].pose.pose)
        .inverse()
        .distance(base_pose(robot.frames[4].stamp - 100.0, 1.0).inverse())[0]
    )
    assert float(error) < 0.03


def test_what_is_not_believed_is_not_latched(start_harness):
    harness = start_harness(tracker="[lost_after=0.3]")
    robot = harness.robot

    def latched():
        late = []
        listener = robot.create_subscription(
            PoseWithCovarianceStamped, "pose", late.append, harness.latched
        )
        time.sleep(0.7)
        robot.destroy_subscription(listener)
        return late

    for number in (0, 1):
        harness.step(number)
    harness.wait(lambda: robot.poses)
    assert latched()
    nowhere = robot.picture(9)
    nowhere.header.frame_id = "unknown_optical_frame"
    harness.step(9, image=nowhere)
    assert harness.node.tracker.state.value == "lost"
    harness.wait(lambda: latched() == [])
    for number in (2, 3):  # the way to it goes on
        harness.step(number)
    harness.wait(lambda: len(robot.poses) >= 2)
    assert latched()
    harness.node.trigger_deactivate()
    harness.wait(lambda: latched() == [])  # the middleware tells everybody when it can


def test_a_camera_that_pans_is_where_it_was_when_the_image_was_taken(start_harness):
    """The mast turns on by 90 degrees after the image."""
    harness = start_harness(odometry_wait="1.0")
    robot = harness.robot
    robot.static.publish(TFMessage(transforms=[]))
    turned = Pose.from_rotvec(
        torch.tensor([0.0, 0.0, math.pi / 2]).double(), torch.zeros(3).double()
    )
    moving = robot.create_publisher(TFMessage, "/tf", 10)
    harness.wait(lambda: moving.get_subscription_count() >= 2)

    def pan(stamp, pose):
        # the optical frame hangs on the mast now
        mast = transform_stamped(time_message(stamp), "base_link", "mast", pose)
        eye = transform_stamped(time_message(stamp), "mast", "panned", mount())
        moving.publish(TFMessage(transforms=[mast, eye]))

    still = Pose.identity(dtype=torch.float64)
    for number in (0, 2):
        stamp = robot.frames[number].stamp
        picture = robot.picture(number)
        picture.header.frame_id = "panned"
        for at in (stamp - 0.1, stamp + 0.01):
            pan(at, still)
        pan(stamp + 0.1, turned)
        harness.step(number, image=picture)
    harness.wait(lambda: robot.poses)
    error = (
        pose_from_message(robot.poses[-1].pose.pose)
        .inverse()
        .distance(base_pose(robot.frames[2].stamp - 100.0, 1.0).inverse())
    )
    assert float(error[0]) < 0.03
    assert float(torch.rad2deg(error[1])) < 0.5
    # known only later: said, not guessed
    picture = robot.picture(1)
    picture.header.frame_id = "panned"
    picture.header.stamp = time_message(robot.frames[0].stamp - 5.0)
    harness.step(1, image=picture)
    assert "not at the image's stamp" in harness.node.journal.error


def test_stamps_of_the_transform_always_grow(start_harness):
    """Simulated time stands still between its ticks; tf2 drops what has the stamp before."""
    harness = start_harness(use_sim_time=True)
    clock = harness.robot.create_publisher(Clock, "/clock", 10)
    harness.wait(lambda: clock.get_subscription_count() >= 1)

    def tick(seconds):
        clock.publish(Clock(clock=time_message(seconds)))
        harness.wait(lambda: abs(harness.node.now() - seconds) < 1e-6)

    tick(harness.robot.frames[0].stamp)
    for number in (0, 2, 7):
        tick(harness.robot.frames[number].stamp)
        harness.step(number)
        harness.node.active.broadcast()
    harness.wait(lambda: len(harness.robot.poses) == 2)
    time.sleep(0.3)

    def stamps():
        return [
            t.header.stamp.sec * 10**9 + t.header.stamp.nanosec for t in harness.robot.transforms
        ]

    assert len(stamps()) >= 4
    assert all(b > a for a, b in pairwise(stamps()))
    # a recording that starts again is another time
    last = stamps()[-1]
    tick(harness.robot.frames[0].stamp)
    harness.wait(lambda: harness.node.tracker.state.value == "unlocalized")
    for number in (0, 1):
        harness.step(number)
    harness.wait(lambda: stamps()[-1] < last)


def test_relocalize_is_a_success_only_with_a_fix(start_harness):
    harness = start_harness()
    robot = harness.robot
    answers = []

    def ask():
        client = robot.create_client(Trigger, "pixloc/relocalize")
        harness.wait(client.service_is_ready)
        client.call_async(Trigger.Request()).add_done_callback(
            lambda future: answers.append(future.result())
        )
        harness.wait(lambda: harness.node.requests.wanted)

    ask()
    harness.step(0)
    time.sleep(0.3)
    assert answers == []  # one estimate stands
    harness.step(2)
    harness.wait(lambda: answers)
    assert answers[0].success
    assert "x " in answers[0].message
    assert len(robot.poses) == 1
    harness.node.configured.forget("as at the start")
    ask()
    harness.step(4)
    harness.wait(lambda: len(answers) == 2)
    assert not answers[1].success
    assert "one estimate stands, room: x" in answers[1].message
    assert "no second one" in answers[1].message


def elsewhere(rgb):
    """Of another world: nothing of it is in the map."""
    return np.random.default_rng(0).integers(0, 255, rgb.shape, np.uint8)


@pytest.mark.parametrize("first", [False, True], ids=["the second one", "the first one"])
@pytest.mark.parametrize("trouble", ["covered", "unplugged", "elsewhere"])
def test_one_camera_of_two_is_of_no_use(start_harness, trouble, first):
    """The other one says where the robot is."""
    names = "[left, front]" if first else "[front, left]"
    harness = start_harness(cameras=names, tracker=f"[{SLOW}]", prefix="front/")
    robot = harness.robot
    robot.add_camera("left", mount() @ Pose.exp(torch.tensor([0.05, 0, 0, 0, 0.6, 0]).double()))
    harness.matched()
    change = {"covered": np.zeros_like, "elsewhere": elsewhere}.get(trouble)
    for number in (0, 2, 4, 6):
        # alone, an image is a moment only when the next one has come
        before = harness.judged() if trouble != "unplugged" or number else harness.judged() - 1
        robot.drive(number)
        if change is not None:
            robot.drive_second(number, 0.0, change)
        harness.wait(lambda before=before: harness.judged() > before)
    harness.wait(lambda: robot.poses)
    for message in robot.poses:
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        metres, degrees = off(message, stamp - 100.0)
        assert metres < 0.05
        assert degrees < 0.7


def runs(pid):
    """Whether there is such a process that has not ended, whoever has to bury it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_end_comes_while_it_tracks(room, number):
    """Nothing is left behind: no process, no shared memory, no stack trace."""
    command = [sys.executable, "-m", "pixloc_ros", "localization_node", "--ros-args"]
    command += ["-p", f"map:={room.map_file}", "-p", f"tracker:=[{SLOW}]"]
    rclpy.init(args=[])
    robot = Robot(room)
    executor = SingleThreadedExecutor()
    executor.add_node(robot)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + 60
        while robot.image.get_subscription_count() == 0 or robot.clouds == []:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for step in range(100):
            robot.drive(step % 2)
            if len(robot.poses) > 1:
                break
        assert robot.poses
        children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
        robot.drive(3)
        node.send_signal(number)
        said, _ = node.communicate(timeout=20)
    finally:
        node.kill()
        executor.shutdown()
        thread.join()
        robot.destroy_node()
        rclpy.shutdown()
    assert node.returncode == 0
    assert "leaked" not in said
    assert "Abort" not in said
    assert "Traceback" not in said
    assert children
    deadline = time.monotonic() + 5
    while any(map(runs, children)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
