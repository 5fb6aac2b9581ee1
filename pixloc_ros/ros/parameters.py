"""The node's parameters: declared with descriptors, validated as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from pixloc_ros.errors import InputError


def _parameter(default: Any, about: str, allowed: Any = None, dynamic: bool = False) -> Any:
    """A field with its description; allowed: (low, high) of a number, or the values of a text."""
    return field(
        default=default, metadata={"about": about, "allowed": allowed, "dynamic": dynamic}
    )


@dataclass(frozen=True)
class NodeParameters:
    """Every parameter of the node. Frames and topics follow REP-105; times in seconds."""

    map: str = _parameter("", "Map file (.pixmap.h5). Required.")
    weights: str = _parameter("", "Network checkpoint; empty for the default network.")
    device: str = _parameter("auto", "Where the network runs.", ("auto", "cpu", "cuda"))
    num_threads: int = _parameter(0, "CPU threads of the network; 0 lets torch decide.", (0, 256))
    cache_mb: float = _parameter(512.0, "Memory for cached map features.", (1.0, 1e6))
    global_frame_id: str = _parameter("map", "Frame of the map.")
    odom_frame_id: str = _parameter("odom", "Frame of the odometry.")
    base_frame_id: str = _parameter("base_link", "Frame of the robot.")
    image_transport: str = _parameter("raw", "raw or compressed images.", ("raw", "compressed"))
    rectified: bool = _parameter(False, "The images are rectified: use P instead of K and D.")
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
    localizer: tuple[str, ...] = _parameter(
        (), "Localizer settings as key=value, for example references=3."
    )
    tracker: tuple[str, ...] = _parameter(
        (), "Tracker settings as key=value, for example lost_after=5.0."
    )


def _type_of(name: str) -> Parameter.Type:
    default: Any = next(f.default for f in fields(NodeParameters) if f.name == name)
    if isinstance(default, tuple):
        return Parameter.Type.STRING_ARRAY
    return Parameter.Type.from_parameter_value(default)


def _descriptor(name: str, about: str, allowed: Any, dynamic: bool) -> ParameterDescriptor:
    kind = _type_of(name)
    descriptor = ParameterDescriptor(
        name=name, description=about, read_only=not dynamic, type=kind.value
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


def declare(node: Node) -> NodeParameters:
    """Declare all parameters and read them. Raises InputError for an impossible set."""
    values: dict[str, Any] = {}
    for entry in fields(NodeParameters):
        meta = entry.metadata
        # an empty list carries no element type: it is declared by its type alone
        is_list = isinstance(entry.default, tuple)
        default: Any = Parameter.Type.STRING_ARRAY if is_list else entry.default
        descriptor = _descriptor(entry.name, meta["about"], meta["allowed"], meta["dynamic"])
        try:
            value: Any = node.declare_parameter(entry.name, default, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise InputError(f"parameter {entry.name}: {error}") from None
        values[entry.name] = tuple(value or ()) if is_list else value
    parameters = NodeParameters(**values)
    reason = problem(parameters)
    if reason:
        raise InputError(reason)
    return parameters


def problem(parameters: NodeParameters) -> str:
    """Why a set of parameters is impossible, or an empty string."""
    for entry in fields(NodeParameters):
        value, allowed = getattr(parameters, entry.name), entry.metadata["allowed"]
        if isinstance(value, str) and allowed and value not in allowed:
            return f"parameter {entry.name} is {value!r}, not one of {', '.join(allowed)}"
        if isinstance(value, (int, float)) and not isinstance(value, bool) and allowed:
            low, high = allowed
            if not low <= value <= high:
                return f"parameter {entry.name} is {value}, not in {low} to {high}"
    if not parameters.map:
        return "parameter map is empty: it names the map file"
    for name in ("map", "weights"):
        path = getattr(parameters, name)
        if path and not Path(path).is_file():
            return f"parameter {name}: {path}: no such file"
    frames = [parameters.global_frame_id, parameters.odom_frame_id, parameters.base_frame_id]
    if not all(frames) or len(set(frames)) != 3:
        return f"global, odom and base frame must be three different names, not {frames}"
    return ""


def updated(parameters: NodeParameters, changes: Sequence[Parameter]) -> NodeParameters:
    """The parameters after a batch of changes to dynamic ones."""
    known = {f.name for f in fields(NodeParameters)}
    values = {f.name: getattr(parameters, f.name) for f in fields(NodeParameters)}
    values |= {c.name: c.value for c in changes if c.name in known}
    return NodeParameters(**values)


def judge(parameters: NodeParameters, changes: Sequence[Parameter]) -> SetParametersResult:
    """Accept or refuse a whole batch of changes."""
    reason = problem(updated(parameters, changes))
    return SetParametersResult(successful=not reason, reason=reason)
