"""What there is from configure to cleanup: maps, what is published, and who works on frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixloc_ros.errors import InputError
from pixloc_ros.localization import LocalizerOptions
from pixloc_ros.localization.map_set import require_maps
from pixloc_ros.localization.map_set_process import MapSetProcess, ProcessLost
from pixloc_ros.localization.map_set_server import MapSetFacts, MapSetSettings
from pixloc_ros.mapping import PixMap
from pixloc_ros.options import override
from pixloc_ros.ros.bridge import TransformBuffer
from pixloc_ros.ros.cameras import CameraImage
from pixloc_ros.ros.frame_processor import FrameProcessor
from pixloc_ros.ros.observer import Observer
from pixloc_ros.ros.odometry import OdometryBuffer
from pixloc_ros.ros.outputs import Outputs
from pixloc_ros.ros.parameters import NodeParameters
from pixloc_ros.ros.services import Services
from pixloc_ros.ros.transitions import wake
from pixloc_ros.ros.worker import Worker

if TYPE_CHECKING:
    from pixloc_ros.ros.node import LocalizationNode


def settings_of(p: NodeParameters) -> MapSetSettings:
    return MapSetSettings(
        path=p.map,
        weights=p.weights,
        device=p.device,
        num_threads=p.num_threads,
        cache_mb=p.cache_mb,
        options=override(LocalizerOptions(), p.localizer),
        frame=p.global_frame_id,
        robot_frames=(p.odom_frame_id, p.base_frame_id),
        record=p.record,
        learn=p.learn,
        keep_frames=p.keep_frames,
        keep_mb=p.keep_mb,
    )


class Configured:
    """Everything that a configured node holds; `close` gives it back.

    process: holds maps and network, and is already serving them.
    """

    def __init__(self, node: LocalizationNode, process: MapSetProcess) -> None:
        p, self._node, self.process = node.parameters, node, process
        self.odometry = OdometryBuffer(
            p.odom_frame_id,
            p.base_frame_id,
            10 * node.tracker.options.motion.max_speed,
            self._on_odometry_jump,
        )
        self.transforms = TransformBuffer(node)
        self.observer = Observer(p, self.transforms, self.odometry, node.get_logger())
        self.outputs = Outputs(node)
        self.place = ""
        self.work = FrameProcessor(node, self)
        self.worker: Worker[tuple[CameraImage, ...]] = Worker(
            self.work.process, self.work.failed, lambda: wake(node)
        )
        self.services = Services(node, self)
        self._announce("serving")

    @property
    def facts(self) -> MapSetFacts:
        assert self.process.facts is not None
        return self.process.facts

    def _announce(self, word: str) -> None:
        facts, logger = self.facts, self._node.get_logger()
        several = f" in {len(facts.submaps)} maps" if len(facts.submaps) > 1 else ""
        logger.info(
            f"{word} {facts.path}: {facts.references} references, {facts.points} points{several}, "
            f"{facts.architecture} on {facts.device}"
        )
        if facts.record:
            logger.info(f"recording to {facts.record}")
        self.show(facts.submaps[0].name)

    def show(self, name: str) -> None:
        """The map that the robot is in, for whoever looks."""
        if name == self.place:
            return
        submap = next(submap for submap in self.facts.submaps if submap.name == name)
        self.place = name
        try:
            with PixMap(submap.path) as pixmap:
                self.outputs.map(pixmap, submap.frame)
        except InputError as error:  # it was there when it was served
            self._node.get_logger().error(f"not shown: {error}")

    def refusal_of(self, wanted: NodeParameters) -> str:
        """Why another map cannot be served by this network, or an empty string."""
        robot = (wanted.odom_frame_id, wanted.base_frame_id)
        facts, frame = self.facts, wanted.global_frame_id
        try:
            require_maps(wanted.map, facts.architecture, facts.weights_hash, frame, robot)
        except InputError as error:
            return str(error)
        return ""

    def exchange(self, wanted: NodeParameters) -> None:
        """Serve another map as soon as the frame at hand is done with."""
        self.worker.mailbox.clear()
        self.forget("another map is served")
        self.worker.mailbox.do(lambda: self._exchange(settings_of(wanted)))

    def _exchange(self, settings: MapSetSettings) -> None:
        try:
            self.process.serve(settings)
        except InputError as error:
            self._node.journal.failed(f"{error}; the map before is still served")
            self._node.get_logger().error(str(error))
            return
        except ProcessLost as lost:
            self.work.start_again(lost, settings)
        if not self.process.closed:
            self.place = ""
            self._announce("now serving")

    def forget(self, why: str) -> None:
        """Whatever is known or under way is void."""
        self._node.pipeline.reset(why)
        self._node.requests.refuse(why)
        self.settle()

    def settle(self) -> None:
        """A pose that is not believed any more is not latched either."""
        if self._node.pipeline.fix is None:
            self.outputs.forget_pose()

    def _on_odometry_jump(self, reason: str) -> None:
        self._node.get_logger().warning(
            f"{reason}: it says nothing about the way since the last fix"
        )
        self._node.pipeline.forget_odometry()

    def close(self) -> None:
        # first: whoever waits for an answer of it is let go
        self.process.close()
        self.worker.stop()
        self.services.close()
        self.outputs.close()
        self.transforms.close()
