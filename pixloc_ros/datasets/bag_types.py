"""The message types of a recording: what reads its bytes, and what ROS 2 makes of them today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat, Nodetype
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from pixloc_ros.datasets.bag_files import one_line

IDL_RULE = "=" * 80 + "\n"
UNDEFINED = MessageDefinitionFormat.NONE


class BagTypes:
    """Types of the connections of a recording, of ROS 1 or 2.

    Definitions in the recording count before those that are known; one that cannot be read
    costs the topics of its type. unknown: types that nothing can read, with the reason.
    """

    def __init__(self, connections: Sequence[Connection], ros1: bool) -> None:
        self.ros1 = ros1
        self._here = get_typestore(Stores.ROS2_KILTED)
        # recordings without definitions may be older than a change of some types
        self._older = None if ros1 else get_typestore(Stores.ROS2_HUMBLE)
        self._defined = {c.msgtype for c in connections if c.msgdef.format != UNDEFINED}
        self.unknown: dict[str, str] = {}
        self._store = self._make(connections)

    def _make(self, connections: Sequence[Connection]) -> Any:
        standard = get_typestore(Stores.ROS1_NOETIC) if self.ros1 else self._here
        known: dict[str, Any] = dict(standard.fielddefs)
        if self.ros1:  # tf2 is no part of the library's types of ROS 1
            text = "geometry_msgs/TransformStamped[] transforms"
            known |= get_types_from_msg(text, "tf2_msgs/msg/TFMessage")
        for connection in connections:
            kind = connection.msgtype
            if kind not in self._defined:
                if kind not in known:
                    self.unknown[kind] = "without a definition"
                continue
            try:
                for name, definition in _definition(connection).items():
                    given = standard.fielddefs.get(name)
                    if given is None or _extends(definition, given):
                        known[name] = definition
            # the library's parser can raise anything
            except Exception as error:
                if kind not in known:
                    self.unknown[kind] = one_line(error)
        made = get_typestore(Stores.EMPTY)
        try:
            made.register(known)
        except Exception as error:
            # one definition contradicts another: those that are known will do
            for connection in connections:
                if connection.msgtype not in standard.fielddefs:
                    self.unknown[connection.msgtype] = one_line(error)
            return standard
        return made

    def read(self, kind: str, data: bytes) -> Any:
        """A message of a known type. Raises what the library raises."""
        decode = self._store.deserialize_ros1 if self.ros1 else self._store.deserialize_cdr
        try:
            return decode(data, kind)
        except Exception:
            if self._older is not None and kind not in self._defined:
                with suppress(Exception):
                    return self._older.deserialize_cdr(data, kind)
            raise

    def as_ros2(self, kind: str, data: bytes) -> bytes:
        """A message's bytes as ROS 2 has them, of a type that is `as_defined_here`."""
        return bytes(self._here.ros1_to_cdr(data, kind) if self.ros1 else data)

    def as_defined_here(self, kind: str) -> bool:
        """Whether a type's messages have the layout that ROS 2 gives them today.

        A type that ROS 2 itself does not have is taken as it is, but for one of ROS 1.
        """
        if kind not in self._here.fielddefs:
            return not self.ros1
        return bool(_layout(kind, self._store.fielddefs) == _layout(kind, self._here.fielddefs))


def full_name(kind: str) -> str:
    """`sensor_msgs/msg/Image` of `sensor_msgs/Image`, as old recordings have it."""
    package, _, rest = kind.partition("/")
    return kind if "/" in rest or not rest else f"{package}/msg/{rest}"


def _definition(connection: Connection) -> dict[str, Any]:
    text = connection.msgdef.data
    if connection.msgdef.format == MessageDefinitionFormat.MSG:
        return dict(get_types_from_msg(text, connection.msgtype))
    if not text.startswith(f"{IDL_RULE}IDL: "):
        return dict(get_types_from_idl(text))
    found: dict[str, Any] = {}
    for part in text.split(IDL_RULE)[1:]:
        found |= get_types_from_idl(part.split("\n", 1)[1])
    return found


def _extends(definition: Any, standard: Any) -> bool:
    """Whether a definition has all fields of the standard's, by which messages are read."""
    return {name for name, _ in standard[1]} <= {name for name, _ in definition[1]}


def _layout(kind: str, definitions: Mapping[str, Any]) -> Any:
    """The types of a message's fields one after the other, without their names."""
    if kind not in definitions:
        return kind
    # the counter of ROS 1 is left out when a message is converted
    return tuple(
        _field(field, definitions)
        for name, field in definitions[kind][1]
        if not (kind == "std_msgs/msg/Header" and name == "seq")
    )


def _field(field: Any, definitions: Mapping[str, Any]) -> Any:
    nodetype, value = field
    if nodetype == Nodetype.NAME:
        return _layout(value, definitions)
    if nodetype == Nodetype.BASE:
        return value
    return int(nodetype), _field(value[0], definitions), value[1]
