"""The robot's cameras: their subscriptions, and the frames of one moment brought together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pixloc_ros.ros.conversions import seconds
from pixloc_ros.ros.qos import LATEST, overridable


@dataclass(frozen=True)
class CameraImage:
    """An image and the calibration that came with it."""

    image: Image | CompressedImage
    info: CameraInfo

    @property
    def stamp(self) -> float:
        return seconds(self.image.header.stamp)


class WhenWanted(MutuallyExclusiveCallbackGroup):
    """Its subscriptions are taken from while `wanted` says so.

    What is not taken stays with the middleware, where the next message replaces it: of a large
    camera, the images that nobody would look at are the greatest part of the work.
    """

    def __init__(self, wanted: Callable[[], bool]) -> None:
        super().__init__()
        self._wanted = wanted

    def can_execute(self, entity: Any) -> bool:
        return self._wanted() and super().can_execute(entity)


class Together:
    """Joins the frames of cameras that are stamped together.

    A moment is handed on when every camera has shown it, or when one shows the next: cameras
    that are not triggered together take turns.
    """

    def __init__(self, cameras: Sequence[str], tolerance: float) -> None:
        self._cameras, self._tolerance = tuple(cameras), tolerance
        self._waiting: dict[str, CameraImage] = {}

    def add(self, camera: str, frame: CameraImage) -> tuple[CameraImage, ...]:
        """The frames of a moment that this one completes or ends, if any."""
        done: tuple[CameraImage, ...] = ()
        first = next(iter(self._waiting.values()), frame)
        if camera in self._waiting or abs(first.stamp - frame.stamp) > self._tolerance:
            done = self._flush()
        self._waiting[camera] = frame
        if len(self._waiting) == len(self._cameras):
            return self._flush()
        return done

    def _flush(self) -> tuple[CameraImage, ...]:
        # in the order of the parameter: the first one is the rig's frame
        frames = tuple(self._waiting[c] for c in self._cameras if c in self._waiting)
        self._waiting = {}
        return frames


class Cameras:
    """Subscriptions of all cameras; hands on the frames of each moment.

    names: one a camera, the prefix of its topics; none for a single camera without prefix.
    wanted: whether anybody would look at an image now; several cameras are always listened to,
    since their images of one moment must come together.
    arrived: called with the frames of a moment. missing: called with the name of a camera whose
    image came without any camera_info before.
    """

    def __init__(
        self,
        node: Node,
        names: Sequence[str],
        compressed: bool,
        tolerance: float,
        arrived: Callable[[tuple[CameraImage, ...]], None],
        missing: Callable[[str], None],
        wanted: Callable[[], bool],
    ) -> None:
        self._node, self._arrived, self._missing = node, arrived, missing
        prefixes: Mapping[str, str] = {n: f"{n}/" for n in names} or {"camera": ""}
        self._together = Together(list(prefixes), tolerance)
        self._info: dict[str, CameraInfo] = {}
        self.subscriptions: list[Subscription] = []
        kind = CompressedImage if compressed else Image
        for name, prefix in prefixes.items():
            self._subscribe(
                CameraInfo, f"{prefix}camera_info", lambda m, n=name: self._info.update({n: m})
            )
            topic = f"{prefix}image"
            if compressed:
                topic = _compressed_topic(node, topic)
            group = WhenWanted(wanted) if len(prefixes) == 1 else None
            self._subscribe(kind, topic, lambda m, n=name: self._on_image(n, m), group)

    def _subscribe(
        self,
        kind: type,
        topic: str,
        callback: Callable[..., None],
        group: WhenWanted | None = None,
    ) -> None:
        self.subscriptions.append(
            self._node.create_subscription(
                kind,
                topic,
                callback,
                LATEST,
                callback_group=group,
                qos_overriding_options=overridable(),
            )
        )

    def _on_image(self, name: str, message: Image | CompressedImage) -> None:
        info = self._info.get(name)
        if info is None:
            self._missing(name)
            return
        frames = self._together.add(name, CameraImage(message, info))
        if frames:
            self._arrived(frames)

    def close(self) -> None:
        for subscription in self.subscriptions:
            self._node.destroy_subscription(subscription)


def _compressed_topic(node: Node, base: str) -> str:
    """Where the compressed images of a topic are: a remap of the base topic holds for them too,
    as image_transport's users expect; one of their own topic goes first.
    """
    topic = f"{base}/compressed"
    remapped = node.resolve_topic_name(topic) != node.resolve_topic_name(topic, only_expand=True)
    return topic if remapped else f"{node.resolve_topic_name(base)}/compressed"
