"""Lifecycle transitions that take long, while the node goes on answering."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode


class _Elsewhere:
    """A call in a thread of its own, which can be awaited.

    wake: has the executor look at what is awaited, which it else does when something comes in.
    """

    def __init__(self, wake: Callable[[], None], function: Any, *arguments: Any) -> None:
        self._wake = wake
        self._answer: Any = None
        self._done = False
        self._thread = threading.Thread(
            target=self._run, args=(function, arguments), name="pixloc_transition", daemon=True
        )
        self._thread.start()

    def _run(self, function: Any, arguments: tuple[Any, ...]) -> None:
        try:
            self._answer = function(*arguments)
        finally:
            self._done = True
            self._wake()

    def __await__(self) -> Generator[None, None, Any]:
        while not self._done:
            yield
        return self._answer


def answer_meanwhile(node: LifecycleNode) -> None:
    """Have the node answer other services while its `change_state` is at work.

    rclpy runs a transition in the executor's thread: for as long as a map is read, nobody could
    ask for a parameter, nor for the state.
    """
    service = node._service_change_state
    change, lock = service.callback, threading.Lock()
    # others are answered while it is awaited
    group = MutuallyExclusiveCallbackGroup()
    group.add_entity(service)
    service.callback_group = group

    def one_at_a_time(request: Any, response: Any) -> Any:
        if not lock.acquire(blocking=False):
            response.success = False  # another transition is under way
            return response
        try:
            return change(request, response)
        finally:
            lock.release()

    async def elsewhere(request: Any, response: Any) -> Any:
        return await _Elsewhere(lambda: wake(node), one_at_a_time, request, response)

    service.callback = elsewhere


def wake(node: LifecycleNode) -> None:
    """Have the executor of a node look at what is awaited."""
    executor = node.executor
    if executor is not None:
        executor.wake()
