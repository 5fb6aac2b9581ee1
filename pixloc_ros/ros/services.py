"""What somebody may ask of the node, or tell it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_srvs.srv import Empty, SetBool, Trigger

from pixloc_ros.errors import InputError
from pixloc_ros.localization import PoseEstimate
from pixloc_ros.ros.pose_file import read_pose, write_pose
from pixloc_ros.ros.pose_hint import belief_at, belief_of
from pixloc_ros.ros.transitions import wake

if TYPE_CHECKING:
    from pixloc_ros.ros.configured import Configured
    from pixloc_ros.ros.node import LocalizationNode


class Services:
    """Searches, hints and the switch of a configured node."""

    def __init__(self, node: LocalizationNode, configured: Configured) -> None:
        self._node, self._configured = node, configured
        self._hint: PoseEstimate | None = None
        make = node.create_service
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
            make(Empty, "request_nomotion_update", self._on_update),
        ]
        self._hints = node.create_subscription(
            PoseWithCovarianceStamped, "initialpose", self._on_hint, 5
        )

    def close(self) -> None:
        for service in self._offered:
            self._node.destroy_service(service)
        self._node.destroy_subscription(self._hints)

    def activate(self) -> None:
        """Take the hint that came before the node was active, or the parameters'."""
        p, hint = self._node.parameters, self._hint
        if hint is None and p.pose_file:
            hint = self._kept_pose()
        if hint is None and p.set_initial_pose:
            frame = p.global_frame_id
            if frame not in self._configured.facts.frames:
                self._node.get_logger().error(f"initial_pose: no map is in frame {frame}")
                return
            place = (p.initial_pose_x, p.initial_pose_y, p.initial_pose_z, p.initial_pose_yaw)
            hint = belief_at(self._node.now(), frame, *place)
        if hint is not None:
            self._take(hint)

    def _kept_pose(self) -> PoseEstimate | None:
        try:
            kept = read_pose(self._node.parameters.pose_file)
        except InputError as error:
            self._node.get_logger().error(str(error))
            return None
        if kept is not None and kept.frame not in self._configured.facts.frames:
            path = self._node.parameters.pose_file
            self._node.get_logger().error(f"{path}: no map is in frame {kept.frame}")
            return None
        return kept

    def keep_pose(self) -> None:
        """Write down where the robot is, for when it is switched on again."""
        fix, path = self._node.pipeline.fix, self._node.parameters.pose_file
        if fix is None or not path:
            return
        try:
            write_pose(path, fix)
        except InputError as error:
            self._node.get_logger().error(str(error))

    def _on_hint(self, message: PoseWithCovarianceStamped) -> None:
        logger = self._node.get_logger()
        try:
            belief = belief_of(message, self._configured.facts.frames)
        except InputError as error:
            logger.error(str(error))
            return
        if self._node.active is not None:
            self._take(belief)
        else:
            self._hint = belief
            logger.info("initialpose is kept until the node is active")

    def _take(self, belief: PoseEstimate) -> None:
        """A hint of the past is carried on by the odometry since; none of the future is."""
        now = self._node.now()
        stamp = belief.stamp if 0 < belief.stamp <= now else now
        odometry = self._configured.observer.past_odometry(stamp)
        self._hint = None
        self._node.pipeline.hint(replace(belief, stamp=now, odom_from_base=odometry))
        self._configured.settle()
        x, y, _ = belief.map_from_base.translation.tolist()
        self._node.get_logger().info(
            f"looking first where somebody says: x {x:.2f} m, y {y:.2f} m"
        )

    def _on_reinitialize(self, request: Empty.Request, answer: Empty.Response) -> Empty.Response:
        self._node.get_logger().info("searching anew, as asked")
        self._configured.forget("the search was started anew")
        return answer

    def _on_update(self, request: Empty.Request, answer: Empty.Response) -> Empty.Response:
        """As AMCL's: an update although the robot stands still."""
        if self._node.active is not None:
            self._node.active.take_next()
        return answer

    def _on_enable(self, request: SetBool.Request, answer: SetBool.Response) -> SetBool.Response:
        self._node.enabled = request.data
        wake(self._node)
        answer.success = True
        answer.message = "localizing" if request.data else "images are ignored"
        return answer

    async def _on_relocalize(
        self, request: Trigger.Request, answer: Trigger.Response
    ) -> Trigger.Response:
        """Search with the next images, and say what came of it: success is a published fix."""
        node = self._node
        if node.active is None or not node.enabled:
            answer.success = False
            answer.message = "the node is not active" if node.enabled else "switched off"
            return answer
        answer.success, answer.message = await node.requests.add()
        return answer
