"""One thread that works on the newest frame, and on what else must not be done meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Task = Callable[[], None]


class Mailbox(Generic[Item]):
    """A slot for one item: a new one replaces what nobody took, and that is counted.

    Tasks wait in a line of their own and go first.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._tasks: deque[Task] = deque()
        self._closed = False
        self.received = 0
        self.dropped = 0

    def put(self, item: Item) -> None:
        with self._changed:
            self.received += 1
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify()

    def do(self, task: Task) -> None:
        with self._changed:
            self._tasks.append(task)
            self._changed.notify()

    def take(self) -> Item | Task | None:
        """The next task or the newest item, once there is one; None after `close`."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or bool(self._tasks) or self._item is not None
            )
            if self._closed:
                return None
            if self._tasks:
                return self._tasks.popleft()
            item, self._item = self._item, None
            return item

    @property
    def empty(self) -> bool:
        with self._changed:
            return self._item is None and not self._tasks

    def clear(self) -> None:
        with self._changed:
            self._item = None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Worker(Generic[Item]):
    """Runs `process` on the newest item. What it raises goes to `failed`, and work goes on.

    free: called when an item is done with.
    """

    def __init__(
        self,
        process: Callable[[Item], None],
        failed: Callable[[Exception], None],
        free: Callable[[], None] = lambda: None,
    ) -> None:
        self.mailbox: Mailbox[Item] = Mailbox()
        self._process, self._failed, self._free = process, failed, free
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="pixloc_worker", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (item := self.mailbox.take()) is not None:
            self._busy = True
            try:
                if callable(item):
                    item()
                else:
                    self._process(item)
            except Exception as error:
                self._failed(error)
            finally:
                self._busy = False
                self._free()

    @property
    def idle(self) -> bool:
        """Whether an item would be worked on at once."""
        return not self._busy and self.mailbox.empty

    def stop(self) -> None:
        """Finish the item at hand and end the thread."""
        self.mailbox.close()
        self._thread.join()
