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
from pixloc_ros.localization.atlas_process import AtlasProcess
from pixloc_ros.ros.conversions import pose_from_message, pose_with_covariance, time_message
from pixloc_ros.ros.parameters import declare

SLOW = "[motion.max_speed=0.1, motion.max_turn_deg=1.0]"


def call(told, kind, name, request=None, seconds=20.0):
    client = told.robot.create_client(kind, name)
    told.wait(client.service_is_ready)
    future = client.call_async(request or kind.Request())
    told.wait(future.done, seconds)
    told.robot.destroy_client(client)
    return future.result()


def change(told, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return call(told, ChangeState, "pixloc/change_state", request).success


def state(told):
    return call(told, GetState, "pixloc/get_state").current_state.label


def truth(stamp):
    return base_pose(stamp - 100.0, 1.0)


def test_the_standard_services_lead_through_the_lifecycle(story):
    told = story(autostart=False)
    assert state(told) == "unconfigured"
    assert told.robot.clouds == []
    for _ in range(2):
        told.robot.clouds.clear()
        assert change(told, Transition.TRANSITION_CONFIGURE)
        assert state(told) == "inactive"
        told.wait(lambda: told.robot.clouds)
        assert told.robot.image.get_subscription_count() == 0
        assert change(told, Transition.TRANSITION_ACTIVATE)
        assert state(told) == "active"
        told.matched()
        told.robot.poses.clear()
        for number in (0, 2):
            told.step(number)
        told.wait(lambda: told.robot.poses)
        assert change(told, Transition.TRANSITION_DEACTIVATE)
        assert state(told) == "inactive"
        assert told.node.tracker.state.value == "unlocalized"
        time.sleep(0.2)
        told.robot.transforms.clear()
        time.sleep(0.3)
        assert told.robot.transforms == []
        assert change(told, Transition.TRANSITION_CLEANUP)
        assert state(told) == "unconfigured"
    assert change(told, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert state(told) == "finalized"


def test_shutdown_while_active_frees_everything(story):
    told = story()
    assert change(told, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert state(told) == "finalized"
    assert told.robot.image.get_subscription_count() == 0


def test_a_failed_configure_can_be_mended(story, room, tmp_path):
    broken = tmp_path / "broken.pixmap.h5"
    broken.write_bytes(room.map_file.read_bytes()[:10_000])
    told = story(autostart=False, map=str(broken))
    assert not change(told, Transition.TRANSITION_CONFIGURE)
    assert str(broken) in told.node.failure
    assert state(told) == "unconfigured"
    result = told.node.set_parameters([Parameter("map", value=str(room.map_file))])[0]
    assert result.successful
    assert change(told, Transition.TRANSITION_CONFIGURE)


def test_what_goes_wrong_unforeseen_ends_unconfigured(story, monkeypatch):
    told = story(autostart=False)

    def explode(*_):
        raise RuntimeError("out of something")

    with monkeypatch.context() as patched:
        patched.setattr("pixloc_ros.ros.node.Configured", explode)
        assert not change(told, Transition.TRANSITION_CONFIGURE)
    assert state(told) == "unconfigured"
    assert change(told, Transition.TRANSITION_CONFIGURE)


def test_a_map_is_exchanged_at_run_time_but_not_for_a_broken_one(story, room, tmp_path):
    broken, copy = tmp_path / "broken.pixmap.h5", tmp_path / "copy.pixmap.h5"
    data = room.map_file.read_bytes()
    broken.write_bytes(data[:10_000])
    copy.write_bytes(data)
    told = story()
    for number in (0, 2):
        told.step(number)
    told.wait(lambda: told.robot.poses)
    for wrong in (str(broken), "/nowhere.pixmap.h5"):
        result = told.node.set_parameters([Parameter("map", value=wrong)])[0]
        assert not result.successful
        assert wrong in result.reason
    told.step(4)
    told.wait(lambda: len(told.robot.poses) == 2)
    assert told.node.set_parameters([Parameter("map", value=str(copy))])[0].successful
    told.wait(lambda: len(told.robot.clouds) == 2)
    assert told.node.tracker.state.value == "unlocalized"
    for number in (6, 8):
        told.step(number)
    told.wait(lambda: len(told.robot.poses) == 3)


def hint(stamp, pose, frame="map", sigma=0.2):
    covariance = torch.eye(6, dtype=torch.float64) * sigma**2
    return pose_with_covariance(time_message(stamp), frame, pose, covariance)


def near(pose):
    offset = torch.tensor([0.1, -0.1, 0.0], dtype=torch.float64)
    return Pose(pose.rotation, pose.translation + offset)


def test_with_an_initialpose_one_frame_is_a_fix(story):
    told = story()
    publisher = told.robot.create_publisher(PoseWithCovarianceStamped, "initialpose", 5)
    told.wait(publisher.get_subscription_count)
    stamp = told.robot.frames[0].stamp
    for wrong in (hint(stamp, truth(stamp), "odom"), hint(stamp, truth(stamp), sigma=math.nan)):
        publisher.publish(wrong)
    time.sleep(0.3)
    assert told.node.tracker.state.value == "unlocalized"
    publisher.publish(hint(0.0, near(truth(stamp))))
    told.wait(lambda: told.node.tracker.state.value == "relocalizing")
    told.step(0)
    told.wait(lambda: told.robot.poses)
    metres, _ = pose_from_message(told.robot.poses[0].pose.pose).distance(truth(stamp))
    assert float(metres) < 0.03


def test_an_initialpose_of_the_past_is_carried_on_by_odometry(story):
    """Somebody says where the robot was at the first frame; it has moved since."""
    told = story(tracker=SLOW)
    publisher = told.robot.create_publisher(PoseWithCovarianceStamped, "initialpose", 5)
    told.wait(publisher.get_subscription_count)
    first, last = told.robot.frames[0].stamp, told.robot.frames[9].stamp
    told.step(0)
    told.robot.drive(9, image=told.robot.picture(0))
    publisher.publish(hint(first, truth(first), sigma=0.01))
    told.wait(lambda: told.node.tracker._known is not None)
    moved = told.node.tracker._known.map_from_odom @ told.node.configured.odometry.at(last, 0.0)
    metres, _ = moved.inverse().distance(truth(last).inverse())
    assert float(metres) < 0.02
    away, _ = truth(first).inverse().distance(truth(last).inverse())
    assert float(away) > 0.1


def test_an_initialpose_is_kept_until_the_node_is_active(story):
    told = story(autostart=False)
    assert change(told, Transition.TRANSITION_CONFIGURE)
    publisher = told.robot.create_publisher(PoseWithCovarianceStamped, "initialpose", 5)
    told.wait(publisher.get_subscription_count)
    publisher.publish(hint(0.0, near(truth(told.robot.frames[0].stamp))))
    told.wait(lambda: told.node.configured.services._hint is not None)
    assert told.node.tracker.state.value == "unlocalized"
    assert change(told, Transition.TRANSITION_ACTIVATE)
    assert told.node.tracker.state.value == "relocalizing"
    told.matched()
    told.step(0)
    told.wait(lambda: told.robot.poses)


def test_the_parameters_may_say_where_to_look_first(story):
    pose = truth(100.0)
    x, y, z = pose.translation.tolist()
    yaw = math.atan2(float(pose.rotation[1, 0]), float(pose.rotation[0, 0]))
    where = {f"initial_pose.{k}": float(v) for k, v in zip("xyz", (x, y, z), strict=True)}
    told = story(set_initial_pose=True, **where, **{"initial_pose.yaw": yaw})
    assert told.node.tracker.state.value == "relocalizing"
    told.step(0)
    told.wait(lambda: told.robot.poses)


def test_services_search_anew_answer_and_switch(story):
    told = story()
    for number in (0, 2):
        told.step(number)
    told.wait(lambda: told.robot.transforms)
    # relocalize: searched with the next image, without the prior
    client = told.robot.create_client(Trigger, "pixloc/relocalize")
    told.wait(client.service_is_ready)
    future = client.call_async(Trigger.Request())
    time.sleep(0.3)
    told.step(4)
    told.wait(future.done)
    assert future.result().success, future.result().message
    assert "x " in future.result().message
    assert told.status()["from_prior"] == "False"
    told.step(6)
    assert told.status()["from_prior"] == "True"
    # no image: an answer all the same
    late = call(told, Trigger, "pixloc/relocalize")
    assert not late.success
    assert "no image" in late.message
    call(told, Empty, "reinitialize_global_localization")
    assert told.node.tracker.state.value == "unlocalized"
    time.sleep(0.2)
    told.robot.transforms.clear()
    time.sleep(0.2)
    assert told.robot.transforms == []
    assert call(told, SetBool, "pixloc/enable", SetBool.Request(data=False)).success
    journal = told.node.journal
    before = journal.fixes + journal.refusals
    told.robot.drive(8)
    time.sleep(1.0)
    assert journal.fixes + journal.refusals == before
    assert not call(told, Trigger, "pixloc/relocalize").success
    assert call(told, SetBool, "pixloc/enable", SetBool.Request(data=True)).success
    told.step(9)


def test_every_frame_has_a_status_with_its_reason_and_stamp(story):
    told = story()
    told.step(0)
    assert "second estimate" in told.status()["reason"]
    assert told.status()["decision"] == "candidate"
    told.step(2)
    assert told.status()["fix"] == "True"
    assert told.status()["decision"] == "fix"
    assert float(told.status()["stamp"]) == pytest.approx(told.robot.frames[2].stamp, abs=1e-6)
    dark = told.robot.picture(4)
    dark.data = array.array("B", bytes(len(dark.data)))
    told.step(4, image=dark)
    assert told.status()["fix"] == "False"
    assert told.status()["state"] == "coasting"
    assert told.status()["reason"]


def test_pictures_and_reference_cameras_for_who_listens(story):
    told = story()
    references, pictures = [], []
    latched = told.latched
    told.robot.create_subscription(MarkerArray, "pixloc/references", references.append, latched)
    told.wait(lambda: references)
    marker = references[0].markers[0]
    assert len(marker.points) == 16 * told.node.configured.facts.references
    assert marker.header.frame_id == "map"
    told.robot.create_subscription(Image, "pixloc/debug_image", pictures.append, 2)
    told.wait(lambda: told.node.configured.outputs.debug_wanted)
    told.step(0)
    told.wait(lambda: pictures)
    drawn = np.frombuffer(pictures[0].data, np.uint8).reshape(pictures[0].height, 640, 3)
    original = np.frombuffer(told.robot.picture(0).data, np.uint8).reshape(480, 640, 3)
    changed = (drawn[-480:] != original).any(-1).mean()
    assert 0.01 < changed < 0.5
    assert drawn[: pictures[0].height - 480].max() > 200  # the headline


def test_an_exception_costs_one_frame(story, monkeypatch):
    told = story()
    for number in (0, 2):
        told.step(number)
    told.wait(lambda: told.robot.poses)

    def explode(*_):
        raise RuntimeError("out of something")

    with monkeypatch.context() as patched:
        patched.setattr(told.node.configured.process, "localize_views", explode)
        told.step(3)
    assert told.node.journal.error == "RuntimeError: out of something"
    assert told.node.tracker.state.value == "coasting"
    told.step(4)
    told.wait(lambda: len(told.robot.poses) == 2)
    assert told.node.journal.error == ""


def test_a_camera_that_fails_is_left_out_and_named(story):
    told = story(cameras="[front, left]")
    robot = told.robot
    robot.add_camera("left", mount())
    told.matched()
    robot.mounts.clear()
    for number in (0, 2):
        before = told.judged()
        nowhere = robot.picture(number)
        nowhere.header.frame_id = "unknown_optical_frame"
        robot.drive(number, image=nowhere)
        robot.drive_second(number, late=0.0)
        told.wait(lambda before=before: told.judged() > before)
    told.wait(lambda: robot.poses)
    assert told.status()["cameras"] == "1"
    assert "unknown_optical_frame" in told.node.journal.error


def test_variances_alone_for_who_takes_no_negative_numbers(story):
    told = story(diagonal_covariance=True)
    for number in (0, 2):
        told.step(number)
    told.wait(lambda: told.robot.poses)
    covariance = np.array(told.robot.poses[0].pose.covariance).reshape(6, 6)
    assert (np.diagonal(covariance) > 0).all()
    assert np.array_equal(covariance, np.diag(np.diagonal(covariance)))
    told.node.set_parameters([Parameter("diagonal_covariance", value=False)])
    told.step(4)
    told.wait(lambda: len(told.robot.poses) == 2)
    assert np.array(told.robot.poses[1].pose.covariance).min() < 0


def test_settings_change_while_it_runs_as_a_whole_or_not_at_all(story):
    told = story()
    node = told.node
    assert node.set_parameters([Parameter("tracker", value=["lost_after=3.0"])])[0].successful
    assert node.tracker.options.lost_after == 3.0
    answer = node.set_parameters_atomically(
        [Parameter("tracker", value=["lost_afetr=1.0"]), Parameter("max_rate", value=1.0)]
    )
    assert not answer.successful
    assert "lost_after" in answer.reason
    assert node.parameters.max_rate == 0.0


def test_a_jump_of_odometry_is_not_driven(story):
    """Encoders that start anew say nothing about the way: the next fix does not trust them."""
    told = story(tracker=SLOW)
    for number in (0, 2):
        told.step(number)
    told.wait(lambda: told.robot.transforms)
    told.robot.odometry_offset = 50.0
    told.step(4)
    told.wait(lambda: len(told.robot.poses) == 2)

    def far(transform):
        offset = transform.transform.translation
        return np.linalg.norm([offset.x, offset.y, offset.z]) > 30

    told.wait(lambda: far(told.robot.transforms[-1]))
    stamp = told.robot.frames[4].stamp
    metres, _ = pose_from_message(told.robot.poses[1].pose.pose).distance(truth(stamp))
    assert float(metres) < 0.03


def test_silence_ends_in_lost(story):
    told = story(tracker="[lost_after=1.5]")
    for number in (0, 2):
        told.step(number)
    told.wait(lambda: told.node.tracker.state.value == "tracking")
    told.wait(lambda: told.node.tracker.state.value == "lost")
    time.sleep(0.2)
    told.robot.transforms.clear()
    time.sleep(0.3)
    assert told.robot.transforms == []


def test_most_images_may_be_left_out(story):
    told = story(max_rate=0.5)
    told.step(0)
    for number in (1, 2, 3):
        told.robot.drive(number)
    time.sleep(0.5)
    assert told.node.journal.refusals == 1
    assert told.node.configured.worker.mailbox.received == 1


@pytest.mark.parametrize("together", [True, False])
def test_two_cameras(story, together):
    """Stamped together they make one answer, else each its own."""
    told = story(cameras="[front, left]")
    robot = told.robot
    robot.add_camera("left", mount() @ Pose.exp(torch.tensor([0.05, 0, 0, 0, 0.4, 0]).double()))
    told.matched()
    for number in (0, 2, 4):
        before = told.judged()
        robot.drive(number)
        robot.drive_second(number, late=0.0 if together else 0.04)
        told.wait(lambda before=before: told.judged() > before)
        time.sleep(0.5)
    robot.drive(6)
    robot.drive_second(6, late=0.0 if together else 0.04)
    told.wait(lambda: len(robot.poses) >= 2)
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


def test_others_are_answered_while_a_map_is_read(story, monkeypatch):
    told = story(autostart=False)
    serve = AtlasProcess.serve

    def slow(process, settings):
        time.sleep(3.0)
        return serve(process, settings)

    monkeypatch.setattr(AtlasProcess, "serve", slow)
    client = told.robot.create_client(ChangeState, "pixloc/change_state")
    told.wait(client.service_is_ready)
    asked = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    getter = told.robot.create_client(GetState, "pixloc/get_state")
    parameter = told.robot.create_client(GetParameters, "pixloc/get_parameters")
    told.wait(lambda: getter.service_is_ready() and parameter.service_is_ready())
    configured = client.call_async(asked)
    time.sleep(0.3)
    for _ in range(5):
        begun = time.monotonic()
        state_now = getter.call_async(GetState.Request())
        named = parameter.call_async(GetParameters.Request(names=["map"]))
        told.wait(lambda s=state_now, n=named: s.done() and n.done())
        assert time.monotonic() - begun < 1.0  # a second of the three; doc/node.md has figures
        assert state_now.result().current_state.label == "configuring"
        assert named.result().values[0].string_value == told.node.parameters.map
    assert not configured.done()
    # and a second transition meanwhile is refused
    assert not change(told, Transition.TRANSITION_CONFIGURE)
    told.wait(configured.done)
    assert configured.result().success
    assert state(told) == "inactive"


def test_a_dump_of_the_parameters_starts_the_same_node(story, tmp_path):
    """An unset parameter would void the whole answer."""
    told = story(tracker="[lost_after=7.0]")
    names = [name for name in told.node._parameters if not name.startswith("qos_overrides")]
    answer = call(told, GetParameters, "pixloc/get_parameters", GetParameters.Request(names=names))
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
    assert again == told.node.parameters


def test_the_last_pose_is_looked_at_first(story, tmp_path):
    path = tmp_path / "pose.yaml"
    told = story(pose_file=str(path), autostart=True)
    assert told.node.tracker.state.value == "unlocalized"  # no file yet
    for number in (0, 2):
        told.step(number)
    told.wait(lambda: told.robot.poses)
    assert change(told, Transition.TRANSITION_DEACTIVATE)
    kept = yaml.safe_load(path.read_text())
    assert kept["frame"] == "map"
    x, y, _ = truth(told.robot.frames[2].stamp).translation.tolist()
    assert kept["position"][:2] == pytest.approx([x, y], abs=0.05)
    assert change(told, Transition.TRANSITION_ACTIVATE)
    assert told.node.tracker.state.value == "relocalizing"
    told.matched()
    told.step(3)
    told.wait(lambda: len(told.robot.poses) == 2)  # one frame that agrees is a fix
    # what is none is said, and nothing is lost by it
    assert change(told, Transition.TRANSITION_DEACTIVATE)
    for text in ("", "hello", "position: [1, 2]\n", "frame: cellar\n" + path.read_text()):
        path.write_text(text)
        assert change(told, Transition.TRANSITION_ACTIVATE)
        assert change(told, Transition.TRANSITION_DEACTIVATE)


def test_a_robot_on_a_plane(story):
    told = story(two_d_mode=True)
    for number in (0, 2):
        told.step(number)
    told.wait(lambda: told.robot.poses and told.robot.transforms)
    pose = told.robot.poses[-1].pose
    q = pose.pose.orientation
    assert (pose.pose.position.z, q.x, q.y) == (0.0, 0.0, 0.0)
    covariance = np.array(pose.covariance).reshape(6, 6)
    assert set(np.nonzero(covariance)[0]) == {0, 1, 5}


def test_the_next_image_is_looked_at_when_somebody_asks(story):
    told = story(max_rate=0.01)
    told.step(0)
    told.robot.drive(2)
    time.sleep(0.5)
    assert told.judged() == 1
    call(told, Empty, "request_nomotion_update")
    told.step(3)
    assert told.judged() == 2


def test_a_node_that_is_switched_off_says_so(story):
    told = story()
    call(told, SetBool, "pixloc/enable", SetBool.Request(data=False))
    told.robot.diagnostics.clear()
    told.robot.drive(0)

    def said():
        return [s.message for s in told.robot.diagnostics if s.name.endswith("input")]

    told.wait(lambda: any("switched the node off" in message for message in said()))
    assert all(s.hardware_id for s in told.robot.diagnostics)
