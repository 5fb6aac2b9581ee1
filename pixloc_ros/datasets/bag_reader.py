"""Recordings of robots, whatever wrote them: rosbag2 and ROS 1, whole or not.

A folder with or without its metadata, split or not, a bare file: what can be read is read, and
what cannot is counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from rosbags.interfaces import (
    Connection,
    MessageDefinitionFormat,
    Nodetype,
    QosDurability,
)
from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag2 import Reader as Reader2
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from pixloc_ros.errors import InputError
from pixloc_ros.left_out import LeftOut

STORAGES = (".mcap", ".db3", ".bag")
IDL_RULE = "=" * 80 + "\n"


class BagError(InputError):
    """A recording that cannot be used, with the path and the reason in one line."""


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
            self._open(_files(path, self.notes, self._opened))
            self.ros1 = any(isinstance(part.reader, Reader1) for part in self._parts)
            self._store, self._unknown = _types(self.connections, self.ros1)
            # types that are defined alike here
            self._ros2 = get_typestore(Stores.ROS2_KILTED)
            # recordings without definitions may be older than a change of some types
            self._older = None if self.ros1 else get_typestore(Stores.ROS2_HUMBLE)
            self._defined = {
                c.msgtype
                for c in self.connections
                if c.msgdef.format != MessageDefinitionFormat.NONE
            }
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
            raise BagError(f"{file}: not a readable recording ({reason}){_cure(file)}")
        for file, reason in failed.items():
            self.notes.append(f"{file.name} is not read: {reason}{_cure(file)}")

    @property
    def connections(self) -> list[Connection]:
        """All of them; a topic that several publishers sent has several."""
        return [c for part in self._parts for c in part.connections]

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

    def count(self, topic: str) -> int:
        """Messages of a topic."""
        return sum(c.msgcount for c in self.connections if c.topic == topic)

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
                yield own[connection.id], stamp, data
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
        if kind in self._unknown:
            self.left_out.add(f"of the unknown type {kind}", connection.topic)
            return None
        decode = self._store.deserialize_ros1 if self.ros1 else self._store.deserialize_cdr
        try:
            return decode(data, kind)
        except Exception as error:
            if self._older is not None and kind not in self._defined:
                with suppress(Exception):
                    return self._older.deserialize_cdr(data, kind)
            self.left_out.add(
                "damaged", f"{connection.topic} at {stamp * 1e-9:.3f} s: {one_line(error)}"
            )
            return None

    def as_ros2(self, connection: Connection, data: bytes) -> bytes | None:
        """A message's bytes as a publisher of ROS 2 takes them; None, counted, where it cannot."""
        if not self.ros1:
            return bytes(data)
        try:
            return bytes(self._ros2.ros1_to_cdr(data, connection.msgtype))
        except Exception as error:
            self.left_out.add(
                f"of {connection.msgtype} that ROS 2 has not", f"{connection.topic}: {error}"
            )
            return None

    def as_defined_here(self, kind: str) -> bool:
        """Whether a type's messages have the layout that ROS 2 gives them today.

        A type that ROS 2 itself does not have is taken as it is.
        """
        here = self._ros2.fielddefs
        if kind not in here:
            return not self.ros1
        there = self._store.fielddefs
        return bool(_layout(kind, there) == _layout(kind, here))

    @property
    def start(self) -> int:
        """Nanoseconds of the first message; zero without any."""
        starts = [part.reader.start_time for part in self._parts if part.reader.message_count]
        return min(starts, default=0)

    def close(self) -> None:
        while self._parts:
            with suppress(Exception):
                self._parts.pop().reader.close()
        self._opened.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def full_name(kind: str) -> str:
    """`sensor_msgs/msg/Image` of `sensor_msgs/Image`, as old recordings have it."""
    package, _, rest = kind.partition("/")
    return kind if "/" in rest or not rest else f"{package}/msg/{rest}"


def _layout(kind: str, definitions: Mapping[str, Any]) -> Any:
    """The types of a message's fields one after the other, without their names."""
    if kind not in definitions:
        return kind
    fields = definitions[kind][1]
    # the counter of ROS 1, which is left out when a message is converted
    return tuple(
        _field(field, definitions)
        for name, field in fields
        if not (kind == "std_msgs/msg/Header" and name == "seq")
    )


def _field(field: Any, definitions: Mapping[str, Any]) -> Any:
    nodetype, value = field
    if nodetype == Nodetype.NAME:
        return _layout(value, definitions)
    if nodetype == Nodetype.BASE:
        return value
    return int(nodetype), _field(value[0], definitions), value[1]


def is_recording(folder: Path) -> bool:
    """Whether a folder holds a recording, with its metadata or without."""
    return (folder / "metadata.yaml").is_file() or any(
        file.suffix in STORAGES for file in folder.iterdir()
    )


def one_line(error: BaseException) -> str:
    """What an error of a library says, short enough for a line."""
    text = " ".join(str(error).split())
    return text[:200] if text else type(error).__name__


def _cure(file: Path) -> str:
    if file.suffix == ".mcap":
        return "; where the recorder was cut off, `mcap recover` may mend it"
    if file.suffix == ".bag":
        return "; where the recorder was cut off, `rosbag reindex` may mend it"
    return ""


def _files(path: Path, notes: list[str], opened: ExitStack) -> list[Path]:
    """The files of a recording: not from its metadata alone, which may be absent or wrong.

    opened: closes what had to be made for it.
    """
    if not path.exists():
        raise BagError(f"{path}: no such recording")
    if path.is_file():
        if path.name == "metadata.yaml":
            return _files(path.parent, notes, opened)
        if path.suffix in (".zstd", ".zst", ".gz", ".xz"):
            raise BagError(f"{path}: compressed as a whole; unpack it first, or name its folder")
        if path.suffix not in STORAGES:
            raise BagError(f"{path}: not a recording (.mcap, .db3, .bag, or a folder of them)")
        return [path]
    there = sorted(p for p in path.iterdir() if p.suffix in STORAGES and p.is_file())
    metadata = path / "metadata.yaml"
    if not metadata.is_file():
        if not there:
            raise BagError(f"{path}: no recording in it (neither metadata.yaml nor .mcap or .db3)")
        notes.append(f"{path}: without metadata.yaml, {len(there)} files are read as they are")
        return there
    try:
        told = yaml.safe_load(metadata.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        listed = [path / Path(str(name)).name for name in told["relative_file_paths"]]
        compressed = str(told.get("compression_mode") or "none").lower() != "none"
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        if not there:
            raise BagError(f"{metadata}: damaged ({one_line(error)})") from None
        notes.append(f"{metadata} is damaged, {len(there)} files are read as they are")
        return there
    missing = [file.name for file in listed if not file.is_file()]
    if compressed and not missing:
        return [path]  # the library unpacks what was compressed
    if len(missing) == len(listed):
        if not there:
            raise BagError(f"{path}: {missing[0] if missing else 'no file'} is not there")
        notes.append(f"{path}: the files that metadata.yaml lists are not there, others are read")
        return there
    here = [file for file in listed if file.is_file()]
    if missing:
        count = len(missing)
        notes.append(f"{path}: {count} of {len(listed)} files are not there ({missing[0]})")
    return [_without_missing(told, here, opened)] if compressed else here


def _without_missing(told: Mapping[str, Any], here: list[Path], opened: ExitStack) -> Path:
    """A folder with the files that are there and metadata of them alone."""
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    for file in here:
        (folder / file.name).symlink_to(file.resolve())
    listed = {**told, "relative_file_paths": [file.name for file in here]}
    content = yaml.safe_dump({"rosbag2_bagfile_information": listed})
    (folder / "metadata.yaml").write_text(content, encoding="utf-8")
    return folder


def _types(connections: list[Connection], ros1: bool) -> tuple[Any, dict[str, str]]:
    """What reads the messages, and the types that it does not know with the reason.

    Definitions in the recording count before those that are known; one that cannot be read
    costs the topics of its type.
    """
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_KILTED)
    known: dict[str, Any] = dict(store.fielddefs)
    if ros1:  # tf2 is no part of the library's types of ROS 1
        with suppress(Exception):
            text = "geometry_msgs/TransformStamped[] transforms"
            known |= get_types_from_msg(text, "tf2_msgs/msg/TFMessage")
    unknown: dict[str, str] = {}
    for connection in connections:
        if connection.msgdef.format == MessageDefinitionFormat.NONE:
            if connection.msgtype not in known:
                unknown[connection.msgtype] = "without a definition"
            continue
        try:
            for kind, definition in _definition(connection).items():
                if kind not in store.fielddefs or _extends(definition, store.fielddefs[kind]):
                    known[kind] = definition
        except Exception as error:
            if connection.msgtype not in known:
                unknown[connection.msgtype] = one_line(error)
    made = get_typestore(Stores.EMPTY)
    try:
        made.register(known)
    except Exception as error:
        # one definition contradicts another: those that are known will do
        for connection in connections:
            if connection.msgtype not in store.fielddefs:
                unknown[connection.msgtype] = one_line(error)
        made = store
    return made, unknown


def _extends(definition: Any, standard: Any) -> bool:
    """Whether a definition has all fields of the standard's, by which messages are read."""
    return {name for name, _ in standard[1]} <= {name for name, _ in definition[1]}


def _definition(connection: Connection) -> dict[str, Any]:
    text = connection.msgdef.data
    if connection.msgdef.format == MessageDefinitionFormat.MSG:
        return dict(get_types_from_msg(text, connection.msgtype))
    found: dict[str, Any] = {}
    if not text.startswith(f"{IDL_RULE}IDL: "):
        return dict(get_types_from_idl(text))
    for part in text.split(IDL_RULE)[1:]:
        found |= get_types_from_idl(part.split("\n", 1)[1])
    return found
