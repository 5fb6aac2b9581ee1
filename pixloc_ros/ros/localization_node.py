"""Runs the node until Ctrl-C."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.logging import get_logger

from pixloc_ros.errors import InputError
from pixloc_ros.ros.node import LocalizationNode

USERS_MISTAKES = (InputError, InvalidParameterTypeException, InvalidParameterValueException)


def run(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after Ctrl-C or a shutdown, 1 when the node cannot start."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        context = rclpy.init(args=given)
    except RuntimeError as error:  # what rcl cannot parse
        raise InputError(str(error).splitlines()[0]) from None
    with context:
        try:
            _spin()
        except USERS_MISTAKES as error:
            get_logger("pixloc").fatal(" ".join(str(error).split()))
            return 1
        except (KeyboardInterrupt, ExternalShutdownException):
            return 0
        except Exception:
            # Ctrl-C during the start shuts ROS down under whatever call comes next
            if rclpy.ok():
                raise
    return 0


def _spin() -> None:
    with ExitStack() as stack:
        # first: rclpy complains when Ctrl-C comes while an executor is being made
        executor = SingleThreadedExecutor()
        node = LocalizationNode()
        stack.callback(node.destroy_node)
        # after all that may still wake it: rclpy's own signal handler does, from a thread
        stack.callback(executor.shutdown)
        stack.callback(node.close)
        executor.add_node(node)
        # services, parameters and diagnostics are answered while maps are read
        starting = _Start(node, executor) if node.parameters.autostart else None
        if starting is not None:
            stack.callback(starting.finish)
        executor.spin()
        if starting is not None and starting.error is not None:
            raise starting.error


class _Start:
    """Configures and activates in a thread of its own; ends the executor where that fails."""

    def __init__(self, node: LocalizationNode, executor: SingleThreadedExecutor) -> None:
        self.error: Exception | None = None
        self._node, self._executor = node, executor
        self._thread = threading.Thread(target=self._run, name="pixloc_start", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for it; what is still being read is given up."""
        self._node.stop_loading()
        self._thread.join(10.0)

    def _run(self) -> None:
        try:
            start(self._node)
        except Exception as error:
            if rclpy.ok():
                self.error = error
            self._executor.shutdown(0)


def start(node: LocalizationNode) -> None:
    """Configure and activate without a lifecycle manager. Raises InputError when that fails."""
    for transition in (node.trigger_configure, node.trigger_activate):
        if transition() != TransitionCallbackReturn.SUCCESS:
            raise InputError(node.failure or "the node could not be started")
