"""Recordings of robots, whatever wrote them: what can be read is read, the rest is counted."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.interfaces import Connection, QosDurability
from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag2 import Reader as Reader2

from pixloc_ros.datasets.bag_files import BagError, cure, files_of, one_line, plain
from pixloc_ros.datasets.bag_types import BagTypes, full_name
from pixloc_ros.left_out import LeftOut


class Message(NamedTuple):
    """stamp: nanoseconds at which it was recorded. content: as rosbags gives it."""

    connection: Connection
    stamp: int
    content: Any


@dataclass(frozen=True)
class _Part:
    """One file, opened."""

    path: Path
    reader: Reader1 | Reader2
    connections: tuple[Connection, ...]


class BagReader:
    """A recording. Use as a context manager, or `close` it.

    notes: what is to be said of how it was opened. left_out: messages that could not be read;
    it fills while they are. Raises BagError where there is nothing to read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self.left_out = LeftOut("message")
        self._parts: list[_Part] = []
        self._opened = ExitStack()
        try:
            self._open(files_of(path, self.notes, self._opened))
            ros1 = any(isinstance(part.reader, Reader1) for part in self._parts)
            self.types = BagTypes(self.connections, ros1)
        except BaseException:
            self.close()
            raise

    def _open(self, files: list[Path]) -> None:
        failed: dict[Path, str] = {}
        for file in files:
            try:
                reader = Reader1(file) if file.suffix == ".bag" else Reader2(file)
                reader.open()
                found = tuple(c._replace(msgtype=full_name(c.msgtype)) for c in reader.connections)
                self._parts.append(_Part(file, reader, found))
            # a damaged file can make the library raise anything, or ask for all memory
            except Exception as error:
                failed[file] = one_line(error)
        if not self._parts:
            file, reason = next(iter(failed.items()))
            raise BagError(f"{file}: not a readable recording ({reason}){cure(file, reason)}")
        for file, reason in failed.items():
            self.notes.append(f"{file.name} is not read: {reason}{cure(file, reason)}")

    @property
    def connections(self) -> list[Connection]:
        """All of them; a topic that several publishers sent has several."""
        return [c for part in self._parts for c in part.connections]

    @property
    def start(self) -> int:
        """Nanoseconds of the first message; zero without any."""
        starts = [part.reader.start_time for part in self._parts if part.reader.message_count]
        return min(starts, default=0)

    def topics(self, kinds: Collection[str] = ()) -> dict[str, str]:
        """Message type by topic, of these types only where they are given."""
        found = {c.topic: c.msgtype for c in self.connections if not kinds or c.msgtype in kinds}
        return dict(sorted(found.items()))

    def named(self, topic: str, kinds: Collection[str], what: str) -> str:
        """The topic that a user means, with or without the slash in front. Raises BagError."""
        known = self.topics(kinds)
        for name in (topic, f"/{topic}"):
            if name in known:
                return name
        listed = ", ".join(known) or "none"
        raise BagError(f"{self.path}: no {what} on {topic}; topics of {what}: {listed}")

    def count(self, topic: str) -> int:
        """Messages of a topic."""
        return sum(c.msgcount for c in self.connections if c.topic == topic)

    def latched(self, topic: str) -> bool:
        """Whether a publisher kept the last message for those who came later."""
        for connection in self.connections:
            if connection.topic == topic:
                ext = connection.ext
                if getattr(ext, "latching", 0):
                    return True
                for qos in getattr(ext, "offered_qos_profiles", ()):
                    if qos.durability == QosDurability.TRANSIENT_LOCAL:
                        return True
        return False

    def raw(self, topics: Collection[str]) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, stamp and bytes of the messages of topics, in the order of stamps."""
        parts = []
        for part in self._parts:
            # an empty list would mean all of them to the library
            chosen = [c for c in part.connections if c.topic in topics]
            if chosen:
                parts.append(self._part(part, chosen))
        yield from merge(*parts, key=lambda entry: entry[1])

    def _part(
        self, part: _Part, chosen: list[Connection]
    ) -> Iterator[tuple[Connection, int, bytes]]:
        own = {c.id: c for c in chosen}
        asked = [c for c in part.reader.connections if c.id in own]
        try:
            for connection, stamp, data in part.reader.messages(connections=asked):
                # by message, where the metadata that says so is lost
                yield own[connection.id], stamp, plain(data)
        except Exception as error:
            self.left_out.add(
                "break in the recording, after which nothing is read",
                f"{part.path.name}: {one_line(error)}",
            )

    def messages(self, topics: Collection[str], kinds: Collection[str] = ()) -> Iterator[Message]:
        """The messages of topics that can be read, in the order of stamps.

        kinds: types, of a topic that has several.
        """
        for connection, stamp, data in self.raw(topics):
            if kinds and connection.msgtype not in kinds:
                continue
            content = self.read(connection, stamp, data)
            if content is not None:
                yield Message(connection, stamp, content)

    def read(self, connection: Connection, stamp: int, data: bytes) -> Any:
        """A message, or None, counted, for one that cannot be read."""
        kind = connection.msgtype
        if kind in self.types.unknown:
            self.left_out.add(f"of the unknown type {kind}", connection.topic)
            return None
        try:
            return self.types.read(kind, data)
        except Exception as error:
            where = f"{connection.topic} at {stamp * 1e-9:.3f} s"
            self.left_out.add("damaged", f"{where}: {one_line(error)}")
            return None

    def as_ros2(self, connection: Connection, data: bytes) -> bytes | None:
        """A message's bytes as a publisher of ROS 2 takes them; None, counted, where it cannot."""
        try:
            return self.types.as_ros2(connection.msgtype, data)
        except Exception as error:
            self.left_out.add("damaged", f"{connection.topic}: {one_line(error)}")
            return None

    def close(self) -> None:
        while self._parts:
            with suppress(Exception):
                self._parts.pop().reader.close()
        self._opened.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
