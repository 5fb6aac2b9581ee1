"""The images of a recording by any robot: rosbag2, MCAP or SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.image import ImageError as BagImageError
from rosbags.image import message_to_cvimage
from rosbags.typesys import Stores, get_typestore

from pixloc_ros.datasets.camera_info import camera_of
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, CameraError

KINDS = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


class BagImages:
    """One topic of images of a bag. Use as a context manager, or `close` it.

    topic: may be left out where there is only one. encoding: empty for images as they come.
    Raises InputError for what is no bag, or has no such topic.
    """

    def __init__(self, path: Path, topic: str = "", encoding: str = "rgb8") -> None:
        self.path, self._encoding = path, encoding or None
        if not path.exists():
            raise InputError(f"{path}: no such bag")
        try:
            store = get_typestore(Stores.ROS2_KILTED)
            self._reader = AnyReader([path], default_typestore=store)
            self._reader.open()
        except (AnyReaderError, OSError, KeyError, ValueError) as error:
            raise InputError(f"{path}: not a readable bag ({_first_line(error)})") from None
        known = {c.topic: c for c in self._reader.connections if c.msgtype in KINDS}
        try:
            if topic and topic not in known:
                there = ", ".join(sorted(known)) or "none"
                raise InputError(f"{path}: no images on {topic}; topics of images: {there}")
            if not known:
                raise InputError(f"{path}: no topic of images")
            if not topic and len(known) > 1:
                listed = ", ".join(sorted(known))
                raise InputError(f"{path}: images on {listed}: choose one with --topic")
        except InputError:
            self.close()
            raise
        self.topic = topic or next(iter(known))
        # of the image that was read last
        self.frame = ""
        self._connection = known[self.topic]

    def __len__(self) -> int:
        return int(self._connection.msgcount)

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """Seconds, and the image: RGB uint8 (H, W, 3), or as it came. Raises InputError."""
        for connection, time, raw in self._reader.messages(connections=[self._connection]):
            message: Any = self._reader.deserialize(raw, connection.msgtype)
            stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
            self.frame = message.header.frame_id.lstrip("/")
            try:
                image = message_to_cvimage(message, self._encoding)
            except (BagImageError, ValueError, TypeError) as error:
                reason = _first_line(error)
                raise InputError(
                    f"{self.path}: {self.topic} at {time * 1e-9:.3f} s: {reason}"
                ) from None
            # what rosbags gives may not be written to
            yield stamp, np.array(image)

    def camera(self) -> Camera:
        """Of the CameraInfo beside the images. Raises InputError where there is none."""
        beside = self.topic.removesuffix("/compressed").rsplit("/", 1)[0] + "/camera_info"
        infos = [c for c in self._reader.connections if c.msgtype.endswith("/CameraInfo")]
        chosen = [c for c in infos if c.topic == beside] or (infos if len(infos) == 1 else [])
        for connection, _, raw in self._reader.messages(connections=chosen) if chosen else ():
            try:
                return camera_of(self._reader.deserialize(raw, connection.msgtype))
            except CameraError as error:
                raise InputError(f"{self.path}: {connection.topic}: {error}") from None
        raise InputError(f"{self.path}: no camera_info beside {self.topic}")

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> BagImages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
