"""The way of a frame through the node, in the worker's thread."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
from rclpy.time import Time

from pixloc_ros.errors import InputError
from pixloc_ros.localization import Moment, Outcome, Status
from pixloc_ros.localization.map_set_process import ProcessLost, RaisedThere
from pixloc_ros.localization.map_set_server import MapSetSettings
from pixloc_ros.ros.cameras import CameraImage
from pixloc_ros.ros.diagnostics import frame_status
from pixloc_ros.visualization.overlay import draw_result

if TYPE_CHECKING:
    from pixloc_ros.ros.configured import Configured
    from pixloc_ros.ros.node import LocalizationNode

SILENCE = 1.0
"""Seconds without a frame after which the robot only coasts."""
LONGEST_PAUSE = 30.0
"""Seconds between tries to start a process that does not come up."""


class FrameProcessor:
    """Observes, asks the pipeline and publishes what came of it; starts what has died again."""

    def __init__(self, node: LocalizationNode, configured: Configured) -> None:
        self._node, self._configured = node, configured
        self._logger = node.get_logger()
        # the stamp of the last frame, and when it was done with
        self._stamp = self._done = 0.0

    def process(self, frames: tuple[CameraImage, ...]) -> None:
        """Localize; a frame that takes long is no silence."""
        self._done, self._stamp = math.inf, frames[0].stamp
        try:
            self._localize(frames)
        except ProcessLost as lost:
            self._done = self._node.now()
            self.start_again(lost)
        finally:
            self._done = self._node.now()
            self._node.arrivals.expect()

    def failed(self, error: Exception) -> None:
        """Something unforeseen costs one frame."""
        if not self._node.context.ok():
            return  # ROS was shut down under the frame at hand
        named = isinstance(error, RaisedThere)
        self._coast(str(error) if named else f"{type(error).__name__}: {error}")

    def _localize(self, frames: tuple[CameraImage, ...]) -> None:
        begun = time.perf_counter()
        node, configured = self._node, self._configured
        parameters = node.parameters
        views, observed, reason = configured.observer.observe(frames, parameters.odometry_wait)
        if observed is None:
            self._coast(reason)
            return
        searching = node.requests.wanted
        outcome = node.pipeline.process(Moment(observed, views), search=searching)
        milliseconds = 1e3 * (time.perf_counter() - begun)
        estimate = outcome.estimate
        if estimate.status is Status.BAD_INPUT:
            self._say(estimate.reason)
        else:
            node.journal.finished(milliseconds, outcome.fix is not None)
        if reason:  # of a camera that was left out
            self._say(reason)
        configured.process.keep(self._stamp, outcome)
        with node.publishing:
            if node.active is None:
                return
            self._publish(frames[0], outcome, milliseconds)
        if searching:
            node.requests.answer(outcome, observed.base_from_cam)
        if estimate.map:
            configured.show(estimate.map)
        if configured.outputs.debug_wanted and estimate.status is not Status.BAD_INPUT:
            images = [np.atleast_3d(view.image) for view in views]
            headline = f"{outcome.state.value}: {estimate.reason}"
            picture = draw_result(images, estimate, headline, outcome.fix is not None)
            configured.outputs.debug(frames[0].image.header, picture)

    def _publish(self, frame: CameraImage, outcome: Outcome, milliseconds: float) -> None:
        node, outputs = self._node, self._configured.outputs
        if outcome.fix is not None:
            when = Time.from_msg(frame.image.header.stamp)
            outputs.pose(node.published(outcome.fix), when, node.parameters.diagonal_covariance)
            if node.active is not None:
                node.active.broadcast()
        else:
            self._logger.info(
                f"{outcome.state.value}: {outcome.estimate.reason}", throttle_duration_sec=2.0
            )
            self._configured.settle()
        outputs.status(frame_status(node.title, frame.stamp, outcome, milliseconds))

    def start_again(self, lost: ProcessLost, settings: MapSetSettings | None = None) -> None:
        """Say what became of the process, and serve again: what it served, or what it should."""
        process, reason, pause = self._configured.process, str(lost), 1.0
        while not process.closed:
            self._coast(f"{reason}; starting it again")
            try:
                process.serve(settings) if settings is not None else process.restart()
            except (ProcessLost, InputError) as error:
                reason = str(error)
                self._node.closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._logger.warning("the process that localizes runs again")
                return

    def notice_silence(self) -> None:
        """Where no frame came for a while the robot coasts on odometry, and is lost in the end."""
        silent = self._node.now() - self._done
        if self._node.pipeline.fix is None or silent < SILENCE:
            return
        odometry = self._configured.observer.newest_odometry()
        self._node.pipeline.refuse(
            self._stamp + silent, odometry, f"no frame was localized for {silent:.1f} s"
        )
        self._configured.settle()

    def _coast(self, reason: str) -> None:
        """A frame that says nothing: the robot coasts, and is lost after a while."""
        odometry = self._configured.observer.odometry_at(self._stamp)
        self._node.pipeline.refuse(self._stamp, odometry, reason)
        self._configured.settle()
        self._say(reason)

    def _say(self, reason: str) -> None:
        self._node.journal.failed(reason)
        self._logger.error(reason, throttle_duration_sec=2.0)
