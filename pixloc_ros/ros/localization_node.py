"""Runs the node until Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger

from pixloc_ros.errors import InputError
from pixloc_ros.ros.node import LocalizationNode


def run(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after Ctrl-C or a shutdown, 1 when the node cannot start."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        context = rclpy.init(args=given)
    except RuntimeError as error:  # what rcl cannot parse
        raise InputError(str(error).splitlines()[0]) from None
    with context:
        try:
            node = LocalizationNode()
        except InputError as error:
            get_logger("pixloc").fatal(str(error))
            return 1
        except KeyboardInterrupt:
            return 0
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            executor.spin()
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        finally:
            node.close()
            executor.remove_node(node)
            node.destroy_node()
    return 0
