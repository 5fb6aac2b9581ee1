"""The localization node: a lifecycle, topics in, pose and transform out."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace

import numpy as np
import torch
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, JumpThreshold, ROSClock, TimeJump
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from std_msgs.msg import Header
from std_srvs.srv import Empty, SetBool, Trigger

from pixloc_ros.errors import InputError
from pixloc_ros.localization import (
    Atlas,
    Belief,
    LocalizationResult,
    Status,
    Tracker,
    TrackerOptions,
)
from pixloc_ros.options import override
from pixloc_ros.ros import diagnostics as tasks
from pixloc_ros.ros import parameters as node_parameters
from pixloc_ros.ros.bridge import TransformBuffer
from pixloc_ros.ros.cameras import Cameras, Frame
from pixloc_ros.ros.observer import Observer
from pixloc_ros.ros.odometry import OdometryBuffer
from pixloc_ros.ros.outputs import Diagnostics, Outputs
from pixloc_ros.ros.pose_hint import belief_at, belief_of
from pixloc_ros.ros.recording import Recording
from pixloc_ros.ros.requests import Requests
from pixloc_ros.ros.serving import Serving
from pixloc_ros.ros.worker import Worker
from pixloc_ros.visualization.overlay import draw_result

SILENCE = 1.0
"""Seconds without a frame after which the robot only coasts."""
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class LocalizationNode(LifecycleNode):
    """Says where the robot is. Raises InputError for impossible parameters.

    The executor's thread only receives and re-sends; one worker thread localizes the newest
    frame. `failure` says why the last transition failed.
    """

    def __init__(self) -> None:
        super().__init__("pixloc")
        self.parameters = node_parameters.declare(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self.failure = ""
        self.journal = tasks.Journal()
        self.tracker = Tracker(override(TrackerOptions(), self.parameters.tracker))
        # what the executor and the worker both touch: tracker and epoch
        self._lock = threading.Lock()
        # answers to what was asked before the last reset or hint are not wanted any more
        self._epoch = 0
        self._hint: Belief | None = None
        self._requests = Requests()
        self._enabled = True
        self._active = False
        # images that came, whatever became of them, and when they were last counted
        self._came = 0
        self._heard = (time.monotonic(), 0)
        self._input_problem = ""
        # the stamp of the last frame, and when it was done with
        self._frame_stamp = self._frame_done = 0.0
        self._accepted = -1e9
        self._delay = 0.0
        self._serving: Serving | None = None
        self._next: Serving | None = None
        self._diagnostics = Diagnostics(self)
        # speaks even where simulated time stands still
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._every_second, clock=self._steady)

    # -- lifecycle ---------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read map and network and make the publishers and services."""
        p = self.parameters
        try:
            missing = node_parameters.missing_file(p)
            if missing:
                raise InputError(missing)
            serving = Serving.load(p)
            try:
                self._record(p.record, serving)
            except InputError:
                serving.close()
                raise
            self._serving = serving
        except InputError as error:
            return self._failed(error)
        self._odometry = OdometryBuffer(
            p.odom_frame_id,
            p.base_frame_id,
            10 * self.tracker.options.motion.max_speed,
            self._on_odometry_jump,
        )
        self._transforms = TransformBuffer(self)
        self._observer = Observer(p, self._transforms, self._odometry, self.get_logger())
        self._outputs = Outputs(self)
        self._show(self._serving.atlas)
        make = self.create_service
        self._offered = [
            make(Empty, "reinitialize_global_localization", self._on_reinitialize),
            # of a group of its own: it waits for what the others receive
            make(
                Trigger,
                "~/relocalize",
                self._on_relocalize,
                callback_group=MutuallyExclusiveCallbackGroup(),
            ),
            make(SetBool, "~/enable", self._on_enable),
        ]
        self._hints = self.create_subscription(
            PoseWithCovarianceStamped, "initialpose", self._on_hint, 5
        )
        self.get_logger().info(
            f"serving {_told_maps(self._serving)}, {self._serving.network.architecture} on "
            f"{self._serving.network.device}"
        )
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to cameras and odometry, and send."""
        p = self.parameters
        assert self._serving is not None
        self._worker: Worker[tuple[Frame, ...]] = Worker(self._work, self._on_failure)
        self._moving = (
            self.create_subscription(Odometry, "odom", self._odometry.add, qos_profile_sensor_data)
            if p.odometry == "topic"
            else None
        )
        self._cameras = Cameras(
            self,
            p.cameras,
            p.image_transport == "compressed",
            p.camera_tolerance,
            self._on_frames,
            self._on_uncalibrated,
        )
        self._sender = self.create_timer(1.0 / p.transform_rate, self._broadcast)
        # a bag that starts again, or a simulation that is reset
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(seconds=-0.5), on_clock_change=True
            ),
            post_callback=self._on_jump,
        )
        self._active = True
        wanted = self._hint is None and p.set_initial_pose
        if wanted and p.global_frame_id not in self._serving.atlas.frames:
            self.get_logger().error(f"initial_pose: no map is in frame {p.global_frame_id}")
        elif wanted:
            self._hint = belief_at(
                self._now(),
                p.global_frame_id,
                p.initial_pose_x,
                p.initial_pose_y,
                p.initial_pose_z,
                p.initial_pose_yaw,
            )
        if self._hint is not None:
            self._take_hint(self._hint)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening and sending, and forget where the robot was."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the map and the network."""
        self._free()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free from whatever state."""
        self.close()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, with nothing held."""
        self.close()
        return SUCCESS

    def close(self) -> None:
        """Stop the worker and free the map; whatever of it there is."""
        self._stop()
        self._free()

    def _failed(self, error: Exception) -> TransitionCallbackReturn:
        self.failure = " ".join(str(error).split())
        if not self.parameters.autostart:  # else whoever started the node says it
            self.get_logger().error(self.failure)
        return FAILURE

    def _stop(self) -> None:
        if not self._active:
            return
        self._active = False
        self._jumps.unregister()
        self._cameras.close()
        if self._moving is not None:
            self.destroy_subscription(self._moving)
        self.destroy_timer(self._sender)
        self._worker.stop()
        self._forget("deactivated")

    def _free(self) -> None:
        if self._serving is None:
            return
        for service in self._offered:
            self.destroy_service(service)
        self.destroy_subscription(self._hints)
        self._outputs.close()
        self._transforms.close()
        self._recording.close()
        self._serving.close()
        self._serving = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    # -- parameters --------------------------------------------------------------------------

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Accept or refuse a whole batch; another map is opened before it is accepted."""
        wanted = node_parameters.updated(self.parameters, changes)
        reason = node_parameters.problem(wanted)
        serving = self._serving
        if not reason and serving is not None and wanted.map != serving.path:
            reason = node_parameters.missing_file(wanted)
            if not reason:
                try:
                    self._next = Serving.of(wanted, serving.network)
                except InputError as error:
                    reason = str(error)
        return SetParametersResult(successful=not reason, reason=reason)

    def _on_parameters_set(self, changes: list[Parameter]) -> None:
        self.parameters = node_parameters.updated(self.parameters, changes)
        with self._lock:
            self.tracker.options = override(TrackerOptions(), self.parameters.tracker)
        if self._next is not None:
            self._serve(self._next)
            self._next = None

    def _show(self, atlas: Atlas) -> None:
        """The map that the robot is in, or else the first."""
        self._shown = atlas.site
        self._outputs.map(atlas.site.localizer.map, atlas.site.frame)

    def _record(self, path: str, serving: Serving) -> None:
        logger = self.get_logger()
        self._recording = Recording(path, serving, logger.error)
        if self._recording.path is not None:
            logger.info(f"recording to {self._recording.path}")

    def _serve(self, serving: Serving) -> None:
        """Another map in place of the one that is served."""
        assert self._serving is not None
        if self._active:
            self._worker.stop()
        self._recording.close()
        self._serving.close()
        self._serving = serving
        try:
            self._record(self.parameters.record, serving)
        except InputError as error:
            self.get_logger().error(f"not recorded: {error}")
            self._record("", serving)
        self._forget("another map is served")
        self._show(serving.atlas)
        if self._active:
            self._worker = Worker(self._work, self._on_failure)
        self.get_logger().info(f"now serving {_told_maps(serving)}")

    # -- executor thread ---------------------------------------------------------------------

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _forget(self, why: str) -> None:
        """Whatever is known or under way is void."""
        with self._lock:
            self._epoch += 1
            self.tracker.reset()
        self._requests.refuse(why)

    def _on_uncalibrated(self, camera: str) -> None:
        self._came += 1
        self._input_problem = f"images but no camera_info yet ({camera}): nothing can be localized"
        self.get_logger().warning(self._input_problem, throttle_duration_sec=2.0)

    def _on_frames(self, frames: tuple[Frame, ...]) -> None:
        self._came += 1
        self._delay = self._now() - frames[0].stamp
        self._input_problem = tasks.stamp_problem(frames[0].stamp, self._delay)
        if frames[0].stamp <= 0:
            # neither odometry nor mounts can be looked up, and no transform can be dated
            self._say_unusable(self._input_problem)
            return
        if not self._enabled:
            return
        rate, now = self.parameters.max_rate, time.monotonic()
        # a little early is in time: cameras are not that regular
        if rate and now - self._accepted < 0.9 / rate:
            return
        self._accepted = now
        self._worker.mailbox.put(frames)

    def _on_jump(self, jump: TimeJump) -> None:
        self.get_logger().warning("the clock jumped: starting over")
        self._worker.mailbox.clear()
        self._odometry.clear()
        self._transforms.clear()
        self._forget("the clock jumped")

    def _on_odometry_jump(self, reason: str) -> None:
        self.get_logger().warning(f"{reason}: it says nothing about the way since the last fix")
        with self._lock:
            self._epoch += 1
            self.tracker.forget_odometry()

    def _on_hint(self, message: PoseWithCovarianceStamped) -> None:
        assert self._serving is not None
        try:
            belief = belief_of(message, self._serving.atlas.frames)
        except InputError as error:
            self.get_logger().error(str(error))
            return
        if self._active:
            self._take_hint(belief)
        else:
            self._hint = belief
            self.get_logger().info("initialpose is kept until the node is active")

    def _take_hint(self, belief: Belief) -> None:
        """A hint of the past is carried on by the odometry since; none of the future is."""
        now = self._now()
        stamp = belief.stamp if 0 < belief.stamp <= now else now
        odometry = self._observer.past_odometry(stamp)
        with self._lock:
            self._epoch += 1
            self._hint = None
            self.tracker.hint(replace(belief, stamp=now, odom_from_base=odometry))
        x, y, _ = belief.map_from_base.translation.tolist()
        self.get_logger().info(f"looking first where somebody says: x {x:.2f} m, y {y:.2f} m")

    def _on_reinitialize(self, request: Empty.Request, answer: Empty.Response) -> Empty.Response:
        self.get_logger().info("searching anew, as asked")
        self._forget("the search was started anew")
        return answer

    def _on_enable(self, request: SetBool.Request, answer: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        answer.success = True
        answer.message = "localizing" if request.data else "images are ignored"
        return answer

    async def _on_relocalize(
        self, request: Trigger.Request, answer: Trigger.Response
    ) -> Trigger.Response:
        """Search with the next image, and say what became of it."""
        if not self._active or not self._enabled:
            answer.success = False
            answer.message = "the node is not active" if self._enabled else "switched off"
            return answer
        answer.success, answer.message = await self._requests.add()
        return answer

    def _broadcast(self) -> None:
        fix, p = self.tracker.fix, self.parameters
        if fix is None or not p.tf_broadcast or not self._active:
            return
        if p.odometry == "none":
            # an old pose is not served as a new one
            if not self.tracker.holds(self._now()):
                return
            child, pose = p.base_frame_id, fix.map_from_base
        elif fix.map_from_odom is not None:
            child, pose = p.odom_frame_id, fix.map_from_odom
        else:
            self.get_logger().warning(
                "poses but no transform: odometry is missing (odometry: none does without)",
                throttle_duration_sec=5.0,
            )
            return
        self._outputs.transform(fix.frame, child, pose, p.transform_tolerance)

    def _every_second(self) -> None:
        self._requests.refuse_late()
        if self._active:
            self._notice_silence()
        self._diagnose()

    def _notice_silence(self) -> None:
        silent = self._now() - self._frame_done
        if self.tracker.fix is None or silent < SILENCE:
            return
        odometry = self._observer.newest_odometry()
        with self._lock:
            self.tracker.refuse(self._frame_stamp + silent, odometry)

    def _clock_problem(self) -> str:
        """Whether simulated time is wanted and nobody gives it."""
        clock = self.get_clock()
        simulated = isinstance(clock, ROSClock) and clock.ros_time_is_active
        if not simulated or clock.now().nanoseconds:
            return ""
        problem = "use_sim_time is set, but nothing is received on /clock (ros2 bag play --clock)"
        self.get_logger().warning(
            problem, throttle_duration_sec=5.0, throttle_time_source_type=self._steady
        )
        return problem

    def _diagnose(self) -> None:
        if not self.context.ok():
            return
        name = self.get_fully_qualified_name().lstrip("/")
        serving, now = self._serving, time.monotonic()
        said = [
            tasks.map_status(
                name,
                self.parameters.map,
                serving.atlas if serving else None,
            )
        ]
        if serving is not None:
            said.append(tasks.device_status(name, serving.network.device))
        if self._active:
            then, before = self._heard
            self._heard = (now, self._came)
            rate = max(self._came - before, 0) / max(now - then, 1e-3)
            problem = self._clock_problem() or self._input_problem or self._odometry.problem
            said += [
                tasks.localization_status(name, self.tracker.state, self.journal),
                tasks.input_status(name, rate, self._delay, self._worker.mailbox.dropped, problem),
            ]
        self._diagnostics.publish(said)

    # -- worker thread -----------------------------------------------------------------------

    def _on_failure(self, error: Exception) -> None:
        if not self.context.ok():
            return  # ROS was shut down under the frame at hand
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, torch.cuda.OutOfMemoryError) and self._serving is not None:
            torch.cuda.empty_cache()
            self._serving = self._serving.on_cpu()
            reason = "the GPU is out of memory: going on, slower, on the CPU"
        with self._lock:
            self.tracker.refuse(self._frame_stamp, self._odometry.newest)
        self.journal.failed(reason)
        self.get_logger().error(f"frame dropped: {reason}", throttle_duration_sec=2.0)

    def _work(self, frames: tuple[Frame, ...]) -> None:
        """Localize; a frame that takes long is no silence."""
        self._frame_done = math.inf
        try:
            self._localize(frames)
        finally:
            self._frame_done = self._now()

    def _localize(self, frames: tuple[Frame, ...]) -> None:
        begun = time.perf_counter()
        serving = self._serving
        assert serving is not None
        stamp = self._frame_stamp = frames[0].stamp
        epoch = self._epoch
        wait = self.parameters.odometry_wait
        views, observed, reason = self._observer.observe(frames, wait)
        if observed is None:
            self._unusable(reason, stamp)
            return
        with self._lock:
            prior = None if self._requests.wanted else self.tracker.prior(observed)
            frame = self.tracker.frame
        result = serving.atlas.localize_views(views, prior, frame)
        if serving.atlas.site is not self._shown:
            self._show(serving.atlas)
        requests = self._requests.take() if prior is None else ()
        with self._lock:
            if epoch != self._epoch:
                result = replace(result, status=Status.REJECTED, reason="no longer asked for")
                fix = None
            else:
                fix, result = self.tracker.update(result, observed)
            state = self.tracker.state
        milliseconds = 1e3 * (time.perf_counter() - begun)
        if result.status is Status.BAD_INPUT:
            self._say_unusable(result.reason)
        else:
            self.journal.finished(milliseconds, result.reason, fix is not None)
        if reason:  # of a camera that was left out
            self._say_unusable(reason)
        if fix is not None:
            when = Time.from_msg(frames[0].image.header.stamp)
            self._outputs.pose(fix, when, self.parameters.diagonal_covariance)
            self._broadcast()
        else:
            self.get_logger().info(f"{state.value}: {result.reason}", throttle_duration_sec=2.0)
        name = self.get_fully_qualified_name().lstrip("/")
        status = tasks.frame_status(name, state, result, fix is not None, milliseconds)
        self._outputs.status(status)
        for request in requests:
            request.told = (result.ok, _told(result, fix, status.message))
        self._recording.add(stamp, views, prior, result)
        if self._outputs.debug_wanted and result.status is not Status.BAD_INPUT:
            header = Header(
                stamp=frames[0].image.header.stamp, frame_id=frames[0].image.header.frame_id
            )
            images = [np.atleast_3d(view.image) for view in views]
            self._outputs.debug(
                header, draw_result(images, result, status.message, fix is not None)
            )

    def _unusable(self, reason: str, stamp: float) -> None:
        """A frame that says nothing: the robot coasts, and is lost after a while."""
        with self._lock:
            self.tracker.refuse(stamp, self._odometry.at(stamp, 0.0))
        self._say_unusable(reason)

    def _say_unusable(self, reason: str) -> None:
        self.journal.failed(reason)
        self.get_logger().error(reason, throttle_duration_sec=2.0)


def _told_maps(serving: Serving) -> str:
    atlas = serving.atlas
    several = f" in {len(atlas.sites)} maps" if len(atlas.sites) > 1 else ""
    return f"{serving.path}: {atlas.references} references, {atlas.points} points{several}"


def _told(result: LocalizationResult, fix: Belief | None, message: str) -> str:
    """What `~/relocalize` answers."""
    if not result.ok or fix is None:
        return message
    x, y, z = fix.map_from_base.translation.tolist()
    return f"{message}, {result.map}: x {x:.3f} m, y {y:.3f} m, z {z:.3f} m"
