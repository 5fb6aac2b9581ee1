"""The lifecycle, the services and what somebody tells the node, over DDS."""

from __future__ import annotations

import array
import math
import time

import numpy as np
import pytest
import rclpy
import torch
import yaml
from geometry_msgs.msg import PoseWithCovarianceStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import Parameter, parameter_value_to_python
from sensor_msgs.msg import Image
from std_srvs.srv import Empty, SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from pixloc_ros.datasets.rendered_room import base_pose, mount
from pixloc_ros.geometry import Pose
from pixloc_ros.localization.map_set_process import MapSetProcess
from pixloc_ros.ros.conversions import pose_from_message, pose_with_covariance, time_message
from pixloc_ros.ros.parameters import declare

SLOW = "[motion.max_speed=0.1, motion.max_turn_deg=1.0]"


def call(harness, kind, name, request=None, seconds=20.0):
    client = harness.robot.create_client(kind, name)
    harness.wait(client.service_is_ready)
    future = client.call_async(request or kind.Request())
    harness.wait(future.done, seconds)
    harness.robot.destroy_client(client)
    return future.result()


def change(harness, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return call(harness, ChangeState, "pixloc/change_state", request).success


def state(harness):
    return call(harness, GetState, "pixloc/get_state").current_state.label


def truth(stamp):
    return base_pose(stamp - 100.0, 1.0)


def test_the_standard_services_lead_through_the_lifecycle(start_harness):
    harness = start_harness(autostart=False)
    assert state(harness) == "unconfigured"
    assert harness.robot.clouds == []
    for _ in range(2):
        harness.robot.clouds.clear()
        assert change(harness, Transition.TRANSITION_CONFIGURE)
        assert state(harness) == "inactive"
        harness.wait(lambda: harness.robot.clouds)
        assert harness.robot.image.get_subscription_count() == 0
        assert change(harness, Transition.TRANSITION_ACTIVATE)
        assert state(harness) == "active"
        harness.matched()
        harness.robot.poses.clear()
        for number in (0, 2):
            harness.step(number)
        harness.wait(lambda: harness.robot.poses)
        assert change(harness, Transition.TRANSITION_DEACTIVATE)
        assert state(harness) == "inactive"
        assert harness.node.tracker.state.value == "unlocalized"
        time.sleep(0.2)
        harness.robot.transforms.clear()
        time.sleep(0.3)
        assert harness.robot.transforms == []
        assert change(harness, Transition.TRANSITION_CLEANUP)
        assert state(harness) == "unconfigured"
    assert change(harness, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert state(harness) == "finalized"


def test_shutdown_while_active_frees_everything(start_harness):
    harness = start_harness()
    assert change(harness, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert state(harness) == "finalized"
    assert harness.robot.image.get_subscription_count() == 0


def test_a_failed_configure_can_be_mended(start_harness, room, tmp_path):
    broken = tmp_path / "broken.pixmap.h5"
    broken.write_bytes(room.map_file.read_bytes()[:10_000])
    harness = start_harness(autostart=False, map=str(broken))
    assert not change(harness, Transition.TRANSITION_CONFIGURE)
    assert str(broken) in harness.node.failure
    assert state(harness) == "unconfigured"
    result = harness.node.set_parameters([Parameter("map", value=str(room.map_file))])[0]
    assert result.successful
    assert change(harness, Transition.TRANSITION_CONFIGURE)


def test_what_goes_wrong_unforeseen_ends_unconfigured(start_harness, monkeypatch):
    harness = start_harness(autostart=False)

    def explode(*_):
        raise RuntimeError("out of something")

    with monkeypatch.context() as patched:
        patched.setattr("pixloc_ros.ros.node.Configured", explode)
        assert not change(harness, Transition.TRANSITION_CONFIGURE)
    assert state(harness) == "unconfigured"
    assert change(harness, Transition.TRANSITION_CONFIGURE)


def test_a_map_is_exchanged_at_run_time_but_not_for_a_broken_one(start_harness, room, tmp_path):
    broken, copy = tmp_path / "broken.pixmap.h5", tmp_path / "copy.pixmap.h5"
    data = room.map_file.read_bytes()
    broken.write_bytes(data[:10_000])
    copy.write_bytes(data)
    harness = start_harness()
    for number in (0, 2):
        harness.step(number)
    harness.wait(lambda: harness.robot.poses)
    for wrong in (str(broken), "/nowhere.pixmap.h5"):
        result = harness.node.set_parameters([Parameter("map", value=wrong)])[0]
        assert not result.successful
        assert wrong in result.reason
    harness.step(4)
    harness.wait(lambda: len(harness.robot.poses) == 2)
    assert harness.node.set_parameters([Parameter("map", value=str(copy))])[0].successful
    harness.wait(lambda: len(harness.robot.clouds) == 2)
    assert harness.node.tracker.state.value == "unlocalized"
    for number in (6, 8):
        harness.step(number)
    harness.wait(lambda: len(harness.robot.poses) == 3)


def hint(stamp, pose, frame="map", sigma=0.2):
    covariance = torch.eye(6, dtype=torch.float64) * sigma**2
    return pose_with_covariance(time_message(stamp), frame, pose, covariance)


def near(pose):
    offset = torch.tensor([0.1, -0.1, 0.0], dtype=torch.float64)
    return Pose(pose.rotation, pose.translation + offset)


def test_with_an_initialpose_one_frame_is_a_fix(start_harness):
    harness = start_harness()
    publisher = harness.robot.create_publisher(PoseWithCovarianceStamped, "initialpose", 5)
    harness.wait(publisher.get_subscription_count)
    stamp = harness.robot.frames[0].stamp
    for wrong in (hint(stamp, truth(stamp), "odom"), hint(stamp, truth(stamp), sigma=math.nan)):
        publisher.publish(wrong)
    time.sleep(0.3)
    assert harness.node.tracker.state.value == "unlocalized"
    publisher.publish(hint(0.0, near(truth(stamp))))
    harness.wait(lambda: harness.node.tracker.state.value == "relocalizing")
    harness.step(0)
    harness.wait(lambda: harness.robot.poses)
    metres, _ = pose_from_message(harness.robot.poses[0].pose.pose).distance(truth(stamp))
    assert float(metres) < 0.03


def test_an_initialpose_of_the_past_is_carried_on_by_odometry(start_harness):
    """Somebody says where the robot was at the first frame; it has moved since."""
    harness = start_harness(tracker=SLOW)
    publisher = harness.robot.create_publisher(PoseWithCovarianceStamped, "initialpose", 5)
    harness.wait(publisher.get_subscription_count)
    first, last = harness.robot.frames[0].stamp, harness.robot.frames[9].stamp
    harness.step(0)
    harness.robot.drive(9, image=harness.robot.picture(0))
    publisher.publish(hint(first, truth(first), sigma=0.01))
    harness.wait(lambda: harness.node.tracker._known is not None)
    moved = harness.node.tracker._known.map_from_odom @ harness.node.configured.odometry.at(
        last, 0.0
    )
    metres, _ = moved.inverse().distance(truth(last).inverse())
    assert float(metres) < 0.02
    away, _ = truth(first).inverse().distance(truth(last).inverse())
    assert float(away) > 0.1


def test_an_initialpose_is_kept_until_the_node_is_active(start_harness):
    harness = start_harness(autostart=False)
    assert change(harness, Transition.TRANSITION_CONFIGURE)
    publisher = harness.robot.create_publisher(PoseWithCovarianceStamped, "initialpose", 5)
    harness.wait(publisher.get_subscription_count)
    publisher.publish(hint(0.0, near(truth(harness.robot.frames[0].stamp))))
    harness.wait(lambda: harness.node.configured.services._hint is not None)
    assert harness.node.tracker.state.value == "unlocalized"
    assert change(harness, Transition.TRANSITION_ACTIVATE)
    assert harness.node.tracker.state.value == "relocalizing"
    harness.matched()
    harness.step(0)
    harness.wait(lambda: harness.robot.poses)


def test_the_parameters_may_say_where_to_look_first(start_harness):
    pose = truth(100.0)
    x, y, z = pose.translation.tolist()
    yaw = math.atan2(float(pose.rotation[1, 0]), float(pose.rotation[0, 0]))
    where = {f"initial_pose.{k}": float(v) for k, v in zip("xyz", (x, y, z), strict=True)}
    harness = start_harness(set_initial_pose=True, **where, **{"initial_pose.yaw": yaw})
    assert harness.node.tracker.state.value == "relocalizing"
    harness.step(0)
    harness.wait(lambda: harness.robot.poses)


def test_services_search_anew_answer_and_switch(start_harness):
    harness = start_harness()
    for number in (0, 2):
        harness.step(number)
    harness.wait(lambda: harness.robot.transforms)
    # relocalize: searched with the next image, without the prior
    client = harness.robot.create_client(Trigger, "pixloc/relocalize")
    harness.wait(client.service_is_ready)
    future = client.call_async(Trigger.Request())
    time.sleep(0.3)
    harness.step(4)
    harness.wait(future.done)
    assert future.result().success, future.result().message
    assert "x " in future.result().message
    assert harness.status()["from_prior"] == "False"
    harness.step(6)
    assert harness.status()["from_prior"] == "True"
    # no image: an answer all the same
    late = call(harness, Trigger, "pixloc/relocalize")
    assert not late.success
    assert "no image" in late.message
    call(harness, Empty, "reinitialize_global_localization")
    assert harness.node.tracker.state.value == "unlocalized"
    time.sleep(0.2)
    harness.robot.transforms.clear()
    time.sleep(0.2)
    assert harness.robot.transforms == []
    assert call(harness, SetBool, "pixloc/enable", SetBool.Request(data=False)).success
    journal = harness.node.journal
    before = journal.fixes + journal.refusals
    harness.robot.drive(8)
    time.sleep(1.0)
    assert journal.fixes + journal.refusals == before
    assert not call(harness, Trigger, "pixloc/relocalize").success
    assert call(harness, SetBool, "pixloc/enable", SetBool.Request(data=True)).success
    harness.step(9)


def test_every_frame_has_a_status_with_its_reason_and_stamp(start_harness):
    harness = start_harness()
    harness.step(0)
    assert "second estimate" in harness.status()["reason"]
    assert harness.status()["decision"] == "candidate"
    harness.step(2)
    assert harness.status()["fix"] == "True"
    assert harness.status()["decision"] == "fix"
    assert float(harness.status()["stamp"]) == pytest.approx(
        harness.robot.frames[2].stamp, abs=1e-6
    )
    dark = harness.robot.picture(4)
    dark.data = array.array("B", bytes(len(dark.data)))
    harness.step(4, image=dark)
    assert harness.status()["fix"] == "False"
    assert harness.status()["state"] == "coasting"
    assert harness.status()["reason"]


def test_pictures_and_reference_cameras_for_who_listens(start_harness):
    harness = start_harness()
    references, pictures = [], []
    latched = harness.latched
    harness.robot.create_subscription(MarkerArray, "pixloc/references", references.append, latched)
    harness.wait(lambda: references)
    marker = references[0].markers[0]
    assert len(marker.points) == 16 * harness.node.configured.facts.references
    assert marker.header.frame_id == "map"
    harness.robot.create_subscription(Image, "pixloc/debug_image", pictures.append, 2)
    harness.wait(lambda: harness.node.configured.outputs.debug_wanted)
    harness.step(0)
    harness.wait(lambda: pictures)
    drawn = np.frombuffer(pictures[0].data, np.uint8).reshape(pictures[0].height, 640, 3)
    original = np.frombuffer(harness.robot.picture(0).data, np.uint8).reshape(480, 640, 3)
    changed = (drawn[-480:] != original).any(-1).mean()
    assert 0.01 < changed < 0.5
    assert drawn[: pictures[0].height - 480].max() > 200  # the headline


def test_an_exception_costs_one_frame(start_harness, monkeypatch):
    harness = start_harness()
    for number in (0, 2):
        harness.step(number)
    harness.wait(lambda: harness.robot.poses)

    def explode(*_):
        raise RuntimeError("out of something")

    with monkeypatch.context() as patched:
        patched.setattr(harness.node.configured.process, "localize_views", explode)
        harness.step(3)
    assert harness.node.journal.error == "RuntimeError: out of something"
    assert harness.node.tracker.state.value == "coasting"
    harness.step(4)
    harness.wait(lambda: len(harness.robot.poses) == 2)
    assert harness.node.journal.error == ""


def test_a_camera_that_fails_is_left_out_and_named(start_harness):
    harness = start_harness(cameras="[front, left]")
    robot = harness.robot
    robot.add_camera("left", mount())
    harness.matched()
    robot.mounts.clear()
    for number in (0, 2):
        before = harness.judged()
        nowhere = robot.picture(number)
        nowhere.header.frame_id = "unknown_optical_frame"
        robot.drive(number, image=nowhere)
        robot.drive_second(number, late=0.0)
        harness.wait(lambda before=before: harness.judged() > before)
    harness.wait(lambda: robot.poses)
    assert harness.status()["cameras"] == "1"
    assert "unknown_optical_frame" in harness.node.journal.error


def test_variances_alone_for_who_takes_no_negative_numbers(start_harness):
    harness = start_harness(diagonal_covariance=True)
    for number in (0, 2):
        harness.step(number)
    harness.wait(lambda: harness.robot.poses)
    covariance = np.array(harness.robot.poses[0].pose.covariance).reshape(6, 6)
    assert (np.diagonal(covariance) > 0).all()
    assert np.array_equal(covariance, np.diag(np.diagonal(covariance)))
    harness.node.set_parameters([Parameter("diagonal_covariance", value=False)])
    harness.step(4)
    harness.wait(lambda: len(harness.robot.poses) == 2)
    assert np.array(harness.robot.poses[1].pose.covariance).min() < 0


def test_settings_change_while_it_runs_as_a_whole_or_not_at_all(start_harness):
    harness = start_harness()
    node = harness.node
    assert node.set_parameters([Parameter("tracker", value=["lost_after=3.0"])])[0].successful
    assert node.tracker.options.lost_after == 3.0
    answer = node.set_parameters_atomically(
        [Parameter("tracker", value=["lost_afetr=1.0"]), Parameter("max_rate", value=1.0)]
    )
    assert not answer.successful
    assert "lost_after" in answer.reason
    assert node.parameters.max_rate == 0.0


def test_a_jump_of_odometry_is_not_driven(start_harness):
    """Encoders that start anew say nothing about the way: the next fix does not trust them."""
    harness = start_harness(tracker=SLOW)
    for number in (0, 2):
        harness.step(number)
    harness.wait(lambda: harness.robot.transforms)
    harness.robot.odometry_offset = 50.0
    harness.step(4)
    harness.wait(lambda: len(harness.robot.poses) == 2)

    def far(transform):
        offset = transform.transform.translation
        return np.linalg.norm([offset.x, offset.y, offset.z]) > 30

    harness.wait(lambda: far(harness.robot.transforms[-1]))
    stamp = harness.robot.frames[4].stamp
    metres, _ = pose_from_message(harness.robot.poses[1].pose.pose).distance(truth(stamp))
    assert float(metres) < 0.03


def test_silence_ends_in_lost(start_harness):
    harness = start_harness(tracker="[lost_after=1.5]")
    for number in (0, 2):
        harness.step(number)
    harness.wait(lambda: harness.node.tracker.state.value == "tracking")
    harness.wait(lambda: harness.node.tracker.state.value == "lost")
    time.sleep(0.2)
    harness.robot.transforms.clear()
    time.sleep(0.3)
    assert harness.robot.transforms == []


def test_most_images_may_be_left_out(start_harness):
    harness = start_harness(max_rate=0.5)
    harness.step(0)
    for number in (1, 2, 3):
        harness.robot.drive(number)
    time.sleep(0.5)
    assert harness.node.journal.refusals == 1
    assert harness.node.configured.worker.mailbox.received == 1


@pytest.mark.parametrize("together", [True, False])
def test_two_cameras(start_harness, together):
    """Stamped together they make one answer, else each its own."""
    harness = start_harness(cameras="[front, left]")
    robot = harness.robot
    robot.add_camera("left", mount() @ Pose.exp(torch.tensor([0.05, 0, 0, 0, 0.4, 0]).double()))
    harness.matched()
    for number in (0, 2, 4):
        before = harness.judged()
        robot.drive(number)
        robot.drive_second(number, late=0.0 if together else 0.04)
        harness.wait(lambda before=before: harness.judged() > before)
        time.sleep(0.5)
    robot.drive(6)
    robot.drive_second(6, late=0.0 if together else 0.04)
    harness.wait(lambda: len(robot.poses) >= 2)
    looks = [{v.key: v.value for v in s.values} for s in robot.statuses]
    counts = {int(look["cameras"]) for look in looks if look["fix"] == "True"}
    assert counts == ({2} if together else {1})
    for message in robot.poses:
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        metres, radians = pose_from_message(message.pose.pose).distance(truth(stamp))
        assert float(metres) < 0.03
        assert float(radians) < 0.01
    stamps = {round(m.header.stamp.nanosec / 1e6) % 100 for m in robot.poses}
    assert (stamps == {0}) is together


def test_others_are_answered_while_a_map_is_read(start_harness, monkeypatch):
    harness = start_harness(autostart=False)
    serve = MapSetProcess.serve

    def slow(process, settings):
        time.sleep(3.0)
        return serve(process, settings)

    monkeypatch.setattr(MapSetProcess, "serve", slow)
    client = harness.robot.create_client(ChangeState, "pixloc/change_state")
    harness.wait(client.service_is_ready)
    asked = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    getter = harness.robot.create_client(GetState, "pixloc/get_state")
    parameter = harness.robot.create_client(GetParameters, "pixloc/get_parameters")
    harness.wait(lambda: getter.service_is_ready() and parameter.service_is_ready())
    configured = client.call_async(asked)
    time.sleep(0.3)
    for _ in range(5):
        begun = time.monotonic()
        state_now = getter.call_async(GetState.Request())
        named = parameter.call_async(GetParameters.Request(names=["map"]))
        harness.wait(lambda s=state_now, n=named: s.done() and n.done())
        assert time.monotonic() - begun < 1.0  # a second of the three; doc/node.md has figures
        assert state_now.result().current_state.label == "configuring"
        assert named.result().values[0].string_value == harness.node.parameters.map
    assert not configured.done()
    # and a second transition meanwhile is refused
    assert not change(harness, Transition.TRANSITION_CONFIGURE)
    harness.wait(configured.done)
    assert configured.result().success
    assert state(harness) == "inactive"


def test_a_dump_of_the_parameters_starts_the_same_node(start_harness, tmp_path):
    """An unset parameter would void the whole answer."""
    harness = start_harness(tracker="[lost_after=7.0]")
    names = [name for name in harness.node._parameters if not name.startswith("qos_overrides")]
    answer = call(
        harness, GetParameters, "pixloc/get_parameters", GetParameters.Request(names=names)
    )
    values = {
        name: parameter_value_to_python(value)
        for name, value in zip(names, answer.values, strict=True)
    }
    assert len(values) == len(names)
    assert not [name for name, value in values.items() if value is None]
    dumped = tmp_path / "dump.yaml"
    plain = {k: list(v) if isinstance(v, (list, tuple)) else v for k, v in values.items()}
    dumped.write_text(yaml.safe_dump({"/pixloc": {"ros__parameters": plain}}))
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "--params-file", str(dumped)], context=context)
    try:
        again = declare(rclpy.create_node("pixloc", context=context))
    finally:
        rclpy.shutdown(context=context)
    assert again == harness.node.parameters


def test_the_last_pose_is_looked_at_first(start_harness, tmp_path):
    path = tmp_path / "pose.yaml"
    harness = start_harness(pose_file=str(path), autostart=True)
    assert harness.node.tracker.state.value == "unlocalized"  # no file yet
    for number in (0, 2):
        harness.step(number)
    harness.wait(lambda: harness.robot.poses)
    assert change(harness, Transition.TRANSITION_DEACTIVATE)
    kept = yaml.safe_load(path.read_text())
    assert kept["frame"] == "map"
    x, y, _ = truth(harness.robot.frames[2].stamp).translation.tolist()
    assert kept["position"][:2] == pytest.approx([x, y], abs=0.05)
    assert change(harness, Transition.TRANSITION_ACTIVATE)
    assert harness.node.tracker.state.value == "relocalizing"
    harness.matched()
    harness.step(3)
    harness.wait(lambda: len(harness.robot.poses) == 2)  # one frame that agrees is a fix
    # what is none is said, and nothing is lost by it
    assert change(harness, Transition.TRANSITION_DEACTIVATE)
    for text in ("", "hello", "position: [1, 2]\n", "frame: cellar\n" + path.read_text()):
        path.write_text(text)
        assert change(harness, Transition.TRANSITION_ACTIVATE)
        assert change(harness, Transition.TRANSITION_DEACTIVATE)


def test_a_robot_on_a_plane(start_harness):
    harness = start_harness(two_d_mode=True)
    for number in (0, 2):
        harness.step(number)
    harness.wait(lambda: harness.robot.poses and harness.robot.transforms)
    pose = harness.robot.poses[-1].pose
    q = pose.pose.orientation
    assert (pose.pose.position.z, q.x, q.y) == (0.0, 0.0, 0.0)
    covariance = np.array(pose.covariance).reshape(6, 6)
    assert set(np.nonzero(covariance)[0]) == {0, 1, 5}


def test_the_next_image_is_looked_at_when_somebody_asks(start_harness):
    harness = start_harness(max_rate=0.01)
    harness.step(0)
    harness.robot.drive(2)
    time.sleep(0.5)
    assert harness.judged() == 1
    call(harness, Empty, "request_nomotion_update")
    harness.step(3)
    assert harness.judged() == 2


def test_a_node_that_is_switched_off_says_so(start_harness):
    harness = start_harness()
    call(harness, SetBool, "pixloc/enable", SetBool.Request(data=False))
    harness.robot.diagnostics.clear()
    harness.robot.drive(0)

    def said():
        return [s.message for s in harness.robot.diagnostics if s.name.endswith("input")]

    harness.wait(lambda: any("switched the node off" in message for message in said()))
    assert all(s.hardware_id for s in harness.robot.diagnostics)
