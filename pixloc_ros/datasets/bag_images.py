"""The images of a recording by any robot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pixloc_ros.datasets.bag_reader import BagReader
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, CameraError
from pixloc_ros.left_out import LeftOut
from pixloc_ros.sensors import ImageError, camera_of, depth_of, frame_name, image_of, note_on

KINDS = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFO = "sensor_msgs/msg/CameraInfo"
TRANSPORTS = ("compressed", "compressedDepth")
VIDEO = ("CompressedVideo", "FFMPEGPacket", "Packet")
TRIED = 100
"""Camera_infos that are looked at for one that is calibrated."""


class BagImages:
    """One topic of images of a bag. Use as a context manager, or `close` it.

    topic: may be left out where there is only one. depth: metres instead of colours. rectified:
    whether the images are undistorted; None where the name of the topic tells it (image_rect).
    left_out: what could not be read; it fills while images are. notes: what is to be said of
    how bag and calibration were understood. Raises InputError for what is no bag, or has no
    such topic.
    """

    def __init__(
        self, path: Path, topic: str = "", depth: bool = False, rectified: bool | None = None
    ) -> None:
        self.path, self._depth = path, depth
        self.left_out = LeftOut("image")
        self._reader = BagReader(path)
        try:
            self.topic = self._choose(topic)
        except InputError:
            self.close()
            raise
        self.rectified = rectified
        if rectified is None:
            self.rectified = "rect" in _base(self.topic).rsplit("/", 1)[-1].split("_")
        self.notes = list(self._reader.notes)
        # of the image that was read last
        self.frame = ""

    def _choose(self, topic: str) -> str:
        known = self._reader.topics(KINDS)
        listed = ", ".join(known) or "none"
        if topic:
            return self._reader.named(topic, KINDS, "images")
        if not known:
            videos = [t for t, k in self._reader.topics().items() if k.endswith(VIDEO)]
            more = f"; {', '.join(videos)} is video, which is not read" if videos else ""
            raise InputError(f"{self.path}: no topic of images{more}")
        if len(known) > 1:
            raise InputError(f"{self.path}: images on {listed}: choose one with --topic")
        return next(iter(known))

    def __len__(self) -> int:
        return self._reader.count(self.topic)

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """Seconds, and the image: RGB uint8 (H, W, 3), or metres float32 (H, W).

        Images that cannot be read, or have no stamp, are left out.
        """
        decode = depth_of if self._depth else image_of
        for _, time, message in self._reader.messages([self.topic], KINDS):
            where = f"{self.topic} at {time * 1e-9:.3f} s"
            stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
            if stamp <= 0:
                self.left_out.add("without a stamp", where)
                continue
            try:
                image = decode(message)
            except ImageError as error:
                self.left_out.add("not readable", f"{where}: {error}")
                continue
            self.frame = frame_name(message.header.frame_id)
            yield stamp, image
        for reason, count in self._reader.left_out.reasons.items():
            self.left_out.add(reason, self._reader.left_out.most, count)
        self._reader.left_out = LeftOut("message")

    def camera(self) -> Camera:
        """Of the CameraInfo beside the images. Raises InputError where there is none."""
        problem = ""
        for message in self._infos():
            try:
                camera = camera_of(message, bool(self.rectified))
            except CameraError as error:
                problem = problem or str(error)
                continue
            note = note_on(message, bool(self.rectified))
            if note and note not in self.notes:
                self.notes.append(note)
            return camera
        if problem:
            raise InputError(f"{self.path}: {problem}")
        raise InputError(f"{self.path}: no camera_info beside {self.topic}")

    def _infos(self) -> Iterator[Any]:
        infos = list(self._reader.topics((INFO,)))
        beside = _base(self.topic).rsplit("/", 1)[0] + "/camera_info"
        chosen = [beside] if beside in infos else infos if len(infos) == 1 else []
        for number, message in enumerate(self._reader.messages(chosen, (INFO,))):
            if number == TRIED:
                return
            yield message.content

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> BagImages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _base(topic: str) -> str:
    """The topic that a transport belongs to."""
    head, _, tail = topic.rpartition("/")
    return head if tail in TRANSPORTS else topic
