"""The node's parameters: declared with descriptors, validated as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from pixloc_ros.errors import InputError
from pixloc_ros.localization import LocalizerOptions, TrackerOptions
from pixloc_ros.localization.learning import LEARN
from pixloc_ros.options import override
from pixloc_ros.sensors.frames import frame_name


def _parameter(
    default: Any, about: str, allowed: Any = None, dynamic: bool = False, name: str = ""
) -> Any:
    """A field with its description; allowed: (low, high) of a number, or the values of a text.

    name: where it differs from the field's.
    """
    meta = {"about": about, "allowed": allowed, "dynamic": dynamic, "name": name}
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class NodeParameters:
    """Every parameter of the node. Frames and topics follow REP-105; times in seconds."""

    map: str = _parameter(
        "",
        "Map file (.pixmap.h5), or a folder of them. Another one is served at once, if it can be.",
        dynamic=True,
    )
    weights: str = _parameter("", "Network checkpoint; empty for the default network.")
    device: str = _parameter("auto", "Where the network runs.", ("auto", "cpu", "cuda"))
    num_threads: int = _parameter(
        0, "CPU threads of network and alignment; 0: all but one, of two both.", (0, 256)
    )
    cache_mb: float = _parameter(512.0, "Memory for map features on the device.", (1.0, 1e6))
    record: str = _parameter(
        "", "Keep every answer with all its steps in this .pixrun file; slower. Empty: do not."
    )
    learn: str = _parameter(
        "none",
        "What fixes say of the map: not kept (none), kept beside it (observe), or also used "
        "to leave out what is gone and to prefer sessions that match now (adapt).",
        LEARN,
    )
    keep_frames: str = _parameter(
        "",
        "Folder for images of fixes where the map is weak, for build_map --refresh; empty: none.",
    )
    keep_mb: float = _parameter(500.0, "Room for them, MB of each map.", (1.0, 1e6))
    autostart: bool = _parameter(
        True, "Configure and activate at once; false waits for a lifecycle manager."
    )
    global_frame_id: str = _parameter(
        "map", "Frame of the map, or of maps without one in frames.yaml."
    )
    odom_frame_id: str = _parameter("odom", "Frame of the odometry.")
    base_frame_id: str = _parameter("base_link", "Frame of the robot.")
    cameras: tuple[str, ...] = _parameter(
        (), "Prefixes of the topics of several cameras; empty for one camera without prefix."
    )
    camera_tolerance: float = _parameter(
        0.005, "Images stamped within this time of each other are one moment.", (0.0, 1.0)
    )
    image_transport: str = _parameter("raw", "raw or compressed images.", ("raw", "compressed"))
    rectified: bool = _parameter(False, "The images are rectified: use P instead of K and D.")
    max_rate: float = _parameter(
        0.0, "Most images localized a second; 0 takes all it can.", (0.0, 1000.0), dynamic=True
    )
    odometry: str = _parameter(
        "topic", "Odometry from the topic odom, from TF, or none.", ("topic", "tf", "none")
    )
    odometry_wait: float = _parameter(
        0.2, "Longest wait for odometry to reach an image's stamp.", (0.0, 5.0), dynamic=True
    )
    tf_broadcast: bool = _parameter(True, "Broadcast map to odom (or to the base).", dynamic=True)
    transform_tolerance: float = _parameter(
        0.2, "The broadcast transform is dated this far ahead.", (0.0, 10.0), dynamic=True
    )
    transform_rate: float = _parameter(30.0, "Rate of re-sending the transform, Hz.", (1.0, 200.0))
    diagonal_covariance: bool = _parameter(
        False, "Publish variances only; Nav2 takes no negative covariances.", dynamic=True
    )
    two_d_mode: bool = _parameter(
        False, "Publish x, y and yaw only, for robots on a plane.", dynamic=True
    )
    pose_file: str = _parameter(
        "", "Keep the last pose here when deactivated, and look there first when activated."
    )
    set_initial_pose: bool = _parameter(False, "Start from initial_pose when activated.")
    initial_pose_x: float = _parameter(0.0, "In the map, metres.", name="initial_pose.x")
    initial_pose_y: float = _parameter(0.0, "In the map, metres.", name="initial_pose.y")
    initial_pose_z: float = _parameter(0.0, "In the map, metres.", name="initial_pose.z")
    initial_pose_yaw: float = _parameter(0.0, "In the map, radians.", name="initial_pose.yaw")
    localizer: tuple[str, ...] = _parameter(
        (), "Localizer settings as key=value, for example references=3."
    )
    tracker: tuple[str, ...] = _parameter(
        (), "Tracker settings as key=value, for example lost_after=5.0.", dynamic=True
    )


def _name(entry: Field[Any]) -> str:
    return entry.metadata["name"] or entry.name


def _type_of(default: Any) -> Parameter.Type:
    if isinstance(default, tuple):
        return Parameter.Type.STRING_ARRAY
    return Parameter.Type.from_parameter_value(default)


def _descriptor(entry: Field[Any]) -> ParameterDescriptor:
    kind, allowed = _type_of(entry.default), entry.metadata["allowed"]
    descriptor = ParameterDescriptor(
        name=_name(entry),
        description=entry.metadata["about"],
        read_only=not entry.metadata["dynamic"],
        type=kind.value,
    )
    if kind is Parameter.Type.INTEGER and allowed:
        descriptor.integer_range = [
            IntegerRange(from_value=allowed[0], to_value=allowed[1], step=0)
        ]
    elif kind is Parameter.Type.DOUBLE and allowed:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=allowed[0], to_value=allowed[1], step=0.0)
        ]
    elif allowed:
        descriptor.additional_constraints = "one of " + ", ".join(allowed)
    return descriptor


def _taken(entry: Field[Any], value: Any) -> Any:
    """The value as it is used: lists without the empty names that stand for none, frames without
    the slash that ROS 1 allowed.
    """
    if isinstance(entry.default, tuple):
        return tuple(name for name in value or () if name)
    return frame_name(value) if entry.name.endswith("_frame_id") else value


def described() -> list[tuple[str, Any, Sequence[Any] | None, bool, str]]:
    """Name, default, allowed values or range, whether it is dynamic, and meaning of each."""
    return [
        (
            _name(entry),
            entry.default,
            entry.metadata["allowed"],
            entry.metadata["dynamic"],
            entry.metadata["about"],
        )
        for entry in fields(NodeParameters)
    ]


def declare(node: Node) -> NodeParameters:
    """Declare all parameters and read them. Raises InputError for an impossible set."""
    values: dict[str, Any] = {}
    for entry in fields(NodeParameters):
        # an empty list carries no element type, and an unset parameter voids a whole dump
        is_list = isinstance(entry.default, tuple)
        default: Any = [""] if is_list else entry.default
        try:
            value: Any = node.declare_parameter(_name(entry), default, _descriptor(entry)).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise InputError(f"parameter {_name(entry)}: {error}") from None
        values[entry.name] = _taken(entry, value)
    parameters = NodeParameters(**values)
    reason = problem(parameters)
    if reason:
        raise InputError(reason)
    return parameters


def problem(parameters: NodeParameters) -> str:
    """Why a set of parameters is impossible, or an empty string. Files are not looked at."""
    for entry in fields(NodeParameters):
        value, allowed = getattr(parameters, entry.name), entry.metadata["allowed"]
        if isinstance(value, str) and allowed and value not in allowed:
            return f"parameter {entry.name} is {value!r}, not one of {', '.join(allowed)}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"parameter {_name(entry)} is {value}"
        if isinstance(value, (int, float)) and not isinstance(value, bool) and allowed:
            low, high = allowed
            if not low <= value <= high:
                return f"parameter {entry.name} is {value}, not in {low} to {high}"
    frames = [parameters.global_frame_id, parameters.odom_frame_id, parameters.base_frame_id]
    if not all(frames) or len(set(frames)) != 3:
        return f"global, odom and base frame must be three different names, not {frames}"
    cameras = parameters.cameras
    if len(set(cameras)) != len(cameras):
        return f"parameter cameras: {list(cameras)} are not different names"
    try:
        override(TrackerOptions(), parameters.tracker)
        override(LocalizerOptions(), parameters.localizer)
    except InputError as error:
        return str(error)
    return ""


def missing_file(parameters: NodeParameters) -> str:
    """Which file a configured node lacks, or an empty string."""
    if not parameters.map:
        return "parameter map is empty: it names the map file, or a folder of maps"
    for name in ("map", "weights"):
        path = getattr(parameters, name)
        here = Path(path)
        if path and not (here.is_file() or (name == "map" and here.is_dir())):
            return f"parameter {name}: {path}: no such file"
    return ""


def updated(parameters: NodeParameters, changes: Sequence[Parameter]) -> NodeParameters:
    """The parameters after a batch of changes to dynamic ones."""
    known = {_name(f): f for f in fields(NodeParameters)}
    values: dict[str, Any] = {}
    for change in changes:
        if change.name in known:
            entry = known[change.name]
            values[entry.name] = _taken(entry, change.value)
    return replace(parameters, **values)
