"""Names of coordinate frames."""

from __future__ import annotations


def frame_name(given: str) -> str:
    """A frame's name as tf2 has it: without the slash that tf of ROS 1 allowed in front.

    Called where a name comes in, from a message, a parameter, a map or a recording; inside,
    names are compared as they are.
    """
    return given.removeprefix("/")
