"""The robot's cameras: their subscriptions, and the frames of one moment brought together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pixloc_ros.ros.conversions import seconds

LATEST = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT
)


@dataclass(frozen=True)
class Frame:
    """An image and the calibration that came with it."""

    image: Image | CompressedImage
    info: CameraInfo

    @property
    def stamp(self) -> float:
        return seconds(self.image.header.stamp)


class Together:
    """Joins the frames of cameras that are stamped together.

    A moment is handed on when every camera has shown it, or when one shows the next: cameras
    that are not triggered together take turns.
    """

    def __init__(self, cameras: Sequence[str], tolerance: float) -> None:
        self._cameras, self._tolerance = tuple(cameras), tolerance
        self._waiting: dict[str, Frame] = {}

    def add(self, camera: str, frame: Frame) -> tuple[Frame, ...]:
        """The frames of a moment that this one completes or ends, if any."""
        done: tuple[Frame, ...] = ()
        first = next(iter(self._waiting.values()), frame)
        if camera in self._waiting or abs(first.stamp - frame.stamp) > self._tolerance:
            done = self._flush()
        self._waiting[camera] = frame
        if len(self._waiting) == len(self._cameras):
            return self._flush()
        return done

    def _flush(self) -> tuple[Frame, ...]:
        # in the order of the parameter: the first one is the rig's frame
        frames = tuple(self._waiting[c] for c in self._cameras if c in self._waiting)
        self._waiting = {}
        return frames


class Cameras:
    """Subscriptions of all cameras; hands on the frames of each moment.

    names: one a camera, the prefix of its topics; none for a single camera without prefix.
    arrived: called with the frames of a moment. missing: called with the name of a camera whose
    image came without any camera_info before.
    """

    def __init__(
        self,
        node: Node,
        names: Sequence[str],
        compressed: bool,
        tolerance: float,
        arrived: Callable[[tuple[Frame, ...]], None],
        missing: Callable[[str], None],
    ) -> None:
        self._node, self._arrived, self._missing = node, arrived, missing
        prefixes: Mapping[str, str] = {n: f"{n}/" for n in names} or {"camera": ""}
        self._together = Together(list(prefixes), tolerance)
        self._info: dict[str, CameraInfo] = {}
        self.subscriptions: list[Subscription] = []
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        for name, prefix in prefixes.items():
            self._subscribe(
                CameraInfo, f"{prefix}camera_info", lambda m, n=name: self._info.update({n: m})
            )
            self._subscribe(kind, f"{prefix}{topic}", lambda m, n=name: self._on_image(n, m))

    def _subscribe(self, kind: type, topic: str, callback: Callable[..., None]) -> None:
        self.subscriptions.append(
            self._node.create_subscription(
                kind,
                topic,
                callback,
                LATEST,
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        )

    def _on_image(self, name: str, message: Image | CompressedImage) -> None:
        info = self._info.get(name)
        if info is None:
            self._missing(name)
            return
        frames = self._together.add(name, Frame(message, info))
        if frames:
            self._arrived(frames)

    def close(self) -> None:
        for subscription in self.subscriptions:
            self._node.destroy_subscription(subscription)
