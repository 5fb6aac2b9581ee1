"""The localization node: a lifecycle, topics in, pose and transform out."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from pixloc_ros.errors import InputError
from pixloc_ros.localization import (
    LocalizationResult,
    Pipeline,
    PoseEstimate,
    Prior,
    Tracker,
    TrackerOptions,
    View,
    planar,
)
from pixloc_ros.localization.map_set_process import MapSetProcess, ProcessLost
from pixloc_ros.options import override
from pixloc_ros.ros import parameters as node_parameters
from pixloc_ros.ros.active import Active
from pixloc_ros.ros.arrivals import Arrivals
from pixloc_ros.ros.configured import Configured, settings_of
from pixloc_ros.ros.diagnostics import Journal
from pixloc_ros.ros.heartbeat import Heartbeat
from pixloc_ros.ros.requests import Requests
from pixloc_ros.ros.transitions import answer_meanwhile, wake

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class LocalizationNode(LifecycleNode):
    """Says where the robot is. Raises InputError for impossible parameters.

    The executor's thread only receives and re-sends; a worker's thread takes the newest frame
    through the pipeline, and the network runs in a process of its own. What exists after
    configure and after activate is one object each: nothing is half there. `failure` says why
    the last transition failed.
    """

    def __init__(self) -> None:
        super().__init__("pixloc")
        self.parameters = node_parameters.declare(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self.failure = ""
        self.pipeline = Pipeline(self._ask, override(TrackerOptions(), self.parameters.tracker))
        self.journal, self.arrivals = Journal(), Arrivals()
        self.requests = Requests(lambda: wake(self))
        self.enabled = True
        self.configured: Configured | None = None
        self.active: Active | None = None
        # held while something is published that an inactive node does not say
        self.publishing = threading.RLock()
        self.closing = threading.Event()
        self._loading: MapSetProcess | None = None
        answer_meanwhile(self)
        self._heartbeat = Heartbeat(self)

    @property
    def tracker(self) -> Tracker:
        return self.pipeline.tracker

    @property
    def title(self) -> str:
        """How the node is called in diagnostics."""
        return self.get_fully_qualified_name().lstrip("/")

    def published(self, fix: PoseEstimate) -> PoseEstimate:
        """A fix as it is published."""
        return planar(fix) if self.parameters.two_d_mode else fix

    def now(self) -> float:
        """Seconds."""
        return self.get_clock().now().nanoseconds * 1e-9

    def _ask(self, views: Sequence[View], prior: Prior | None, frame: str) -> LocalizationResult:
        assert self.configured is not None
        return self.configured.process.localize_views(views, prior, frame)

    # -- lifecycle ---------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read map and network and make the publishers and services."""
        logger = self.get_logger()
        self.closing.clear()
        process = self._loading = MapSetProcess(logger.info, logger.error)
        try:
            missing = node_parameters.missing_file(self.parameters)
            if missing:
                raise InputError(missing)
            process.serve(settings_of(self.parameters))
            self.configured = Configured(self, process)
        except Exception as error:
            process.close()
            if not self.context.ok():
                # ROS was shut down meanwhile: the end of the transition cannot be told any more
                raise SystemExit from None
            if isinstance(error, (InputError, ProcessLost)):
                return self._failed(error)
            raise
        finally:
            self._loading = None
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to cameras and odometry, and send."""
        assert self.configured is not None
        self.active = Active(self, self.configured)
        self.configured.services.activate()
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
        """Stop listening and free the map, whatever of it there is; also while it is read."""
        self.stop_loading()
        try:
            self._stop()
        finally:
            self._free()

    def stop_loading(self) -> None:
        """Give up what a transition is reading."""
        loading = self._loading
        if loading is not None:
            loading.close()

    def _failed(self, error: Exception) -> TransitionCallbackReturn:
        self.failure = " ".join(str(error).split())
        if not self.parameters.autostart:  # else whoever started the node says it
            self.get_logger().error(self.failure)
        return FAILURE

    def _stop(self) -> None:
        with self.publishing:
            active, self.active = self.active, None
        if active is None:
            return
        active.close()
        assert self.configured is not None
        self.configured.services.keep_pose()
        self.configured.forget("deactivated")

    def _free(self) -> None:
        self.closing.set()
        configured, self.configured = self.configured, None
        if configured is not None:
            configured.close()

    # -- parameters --------------------------------------------------------------------------

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Accept or refuse a whole batch; another map is looked at before it is accepted."""
        wanted = node_parameters.updated(self.parameters, changes)
        reason = node_parameters.problem(wanted)
        if not reason and self.configured is not None and wanted.map != self.parameters.map:
            reason = node_parameters.missing_file(wanted) or self.configured.refusal_of(wanted)
        return SetParametersResult(successful=not reason, reason=reason)

    def _on_parameters_set(self, changes: list[Parameter]) -> None:
        before, self.parameters = (
            self.parameters,
            node_parameters.updated(self.parameters, changes),
        )
        self.pipeline.set_options(override(TrackerOptions(), self.parameters.tracker))
        if self.configured is not None and self.parameters.map != before.map:
            self.configured.exchange(self.parameters)
