"""The images of a recording by any robot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixloc_ros.datasets.bag_reader import BagReader
from pixloc_ros.datasets.bag_stamps import StampGuard
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, CameraError
from pixloc_ros.left_out import LeftOut
from pixloc_ros.sensors import ImageError, camera_of, depth_of, frame_name, image_of, note_on

KINDS = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFO = "sensor_msgs/msg/CameraInfo"
TRANSPORTS = ("compressed", "compressedDepth")
VIDEO = ("CompressedVideo", "FFMPEGPacket", "Packet")
RECTIFIED = re.compile(r"(^|[_/])(rect|rectified|undist|undistorted)([_/]|$)|[a-z]Rect(ified)?\b")
"""In names of topics of undistorted images."""


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
        self.notes = list(self._reader.notes)
        self.rectified = bool(RECTIFIED.search(_base(self.topic)))
        self._told = rectified is not None
        if rectified is not None:
            self.rectified = rectified
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
        guard = StampGuard()
        for _, time, message in self._reader.messages([self.topic], KINDS):
            where = f"{self.topic} at {time * 1e-9:.3f} s"
            seconds, nanoseconds = message.header.stamp.sec, message.header.stamp.nanosec
            problem = guard.problem(seconds * 1_000_000_000 + nanoseconds, time)
            if problem:
                self.left_out.add(problem, where)
                continue
            try:
                image = decode(message)
            except ImageError as error:
                self.left_out.add("not readable", f"{where}: {error}")
                continue
            self.frame = frame_name(message.header.frame_id)
            yield seconds + 1e-9 * nanoseconds, image
        for reason, count in self._reader.left_out.reasons.items():
            self.left_out.add(reason, self._reader.left_out.most, count)
        self._reader.left_out = LeftOut("message")

    def camera(self) -> Camera:
        """Of the CameraInfo beside the images. Raises InputError where there is none."""
        topic = self._info_topic()
        problem, found, others = "", None, 0
        for _, _, message in self._reader.messages([topic], (INFO,)):
            try:
                camera = camera_of(message, self._rectified_by(message))
            except CameraError as error:
                problem = problem or str(error)
                continue
            if found is None:
                found = camera
                self._note(note_on(message, self.rectified))
            elif not torch.equal(camera.numbers(), found.numbers()):
                others += 1
        if found is None:
            raise InputError(f"{self.path}: {topic}: {problem or 'no message'}")
        if others:
            self._note(f"{topic}: {others} messages differ from the first, which is taken")
        if self.rectified and not self._told:
            self._note(f"{self.topic}: by its name of rectified images (--no-rectified if not)")
        return found

    def _rectified_by(self, info: Any) -> bool:
        """Whether P counts; a name alone cannot make it, where only K is there."""
        p = np.asarray(getattr(info, "p", getattr(info, "P", ())), np.float64)
        d = np.asarray(getattr(info, "d", getattr(info, "D", ())), np.float64)
        if self.rectified and not self._told and not p.any() and not d.any():
            return False
        return self.rectified

    def _note(self, note: str) -> None:
        if note and note not in self.notes:
            self.notes.append(note)

    def _info_topic(self) -> str:
        """The camera_info of the images, or the only one there is if it is of their frame."""
        infos = list(self._reader.topics((INFO,)))
        space = _base(self.topic).rsplit("/", 1)[0]
        if f"{space}/camera_info" in infos:
            return f"{space}/camera_info"
        near = [topic for topic in infos if topic.rsplit("/", 1)[0] == space]
        if len(near) == 1:
            return near[0]
        missing = f"{self.path}: no camera_info beside {self.topic}"
        if len(infos) != 1:
            raise InputError(f"{missing}; there are {', '.join(infos) or 'none'}")
        only, own = (self._first_frame(topic) for topic in (infos[0], self.topic))
        if only != own:
            raise InputError(
                f"{missing}; the only one, {infos[0]}, is of {only!r}, not of {own!r}"
            )
        self._note(f"camera_info of {infos[0]} is taken for {self.topic}")
        return infos[0]

    def _first_frame(self, topic: str) -> str:
        for message in self._reader.messages([topic], (*KINDS, INFO)):
            return frame_name(message.content.header.frame_id)
        return ""

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
