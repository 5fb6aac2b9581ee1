"""Maps and network in a process of their own, which may die or hang without its owner.

A network can be killed for its memory, a driver can hang, a compilation holds Python's lock for
seconds. The owner goes on meanwhile, says what happened, and starts the process again.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from pixloc_ros.errors import InputError
from pixloc_ros.localization import map_set_server
from pixloc_ros.localization.map_set_server import (
    Health,
    MapSetFacts,
    MapSetSettings,
    Shared,
    receive,
    send,
)
from pixloc_ros.localization.pipeline import Outcome
from pixloc_ros.localization.result import LocalizationResult, Prior
from pixloc_ros.localization.views import View

PATIENCE = 10.0
"""Seconds without an answer to a frame after which the process counts as hung."""


class ProcessLost(RuntimeError):
    """The process died, hung or was ended; the message says which."""


class RaisedThere(RuntimeError):
    """What the process raised over a frame; it goes on."""


@dataclass
class _Child:
    process: BaseProcess
    connection: Connection


class MapSetProcess:
    """Serves maps from a process. One thread uses it; `close` may come from any other.

    say: told what the process says while it loads. trouble: told what goes wrong beside answers.
    facts: what is served, None before the first `serve`. health: of the process, last told.
    """

    def __init__(self, say: Callable[[str], object], trouble: Callable[[str], object]) -> None:
        self._say, self._trouble = say, trouble
        self._child: _Child | None = None
        self._settings: MapSetSettings | None = None
        self._memory: SharedMemory | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.facts: MapSetFacts | None = None
        self.health = Health()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def pid(self) -> int | None:
        child = self._child
        return None if child is None else child.process.pid

    def serve(self, settings: MapSetSettings) -> MapSetFacts:
        """Serve these maps; starts the process where there is none. Waits until they are loaded.

        Raises InputError where they cannot be served: what was served before goes on. Raises
        ProcessLost where the process died over it.
        """
        if self._child is None:
            self._start()
        self._ask("serve", settings)
        while True:
            kind, content, *_ = self._hear(None)
            if kind == "failed":
                raise InputError(content)
            if kind == "serving":
                self._settings, self.facts = settings, content
                return content

    def restart(self) -> None:
        """Serve again what was served, in a new process. Raises as `serve`."""
        assert self._settings is not None
        self._end()
        self.serve(self._settings)

    def localize_views(
        self, views: Sequence[View], prior: Prior | None = None, frame: str = ""
    ) -> LocalizationResult:
        """As `MapSet.localize_views`.

        Raises ProcessLost where the process died, or gives no answer for `PATIENCE` seconds: it
        is ended then. Raises RaisedThere with what was raised in it.
        """
        if self._child is None:
            raise ProcessLost("the process that localizes is not running")
        name, images = self._share([np.ascontiguousarray(view.image) for view in views])
        cameras, mounts = [v.camera for v in views], [v.cam_from_rig for v in views]
        self._ask("localize", name, images, cameras, mounts, prior, frame)
        deadline = time.monotonic() + PATIENCE
        while True:
            kind, *content = self._hear(deadline)
            if kind == "raised":
                self._free()  # which it may have been unable to open
                raise RaisedThere(content[0])
            if kind == "answer":
                result, self.health = content
                return result

    def keep(self, stamp: float, outcome: Outcome) -> None:
        """Record the last answer and what became of it, and learn from it, if that is wanted."""
        asked = self._settings
        learns = asked is not None and bool(asked.learn != "none" or asked.keep_frames)
        records = self.facts is not None and self.facts.record
        if self._child is not None and (learns or records):
            estimate = outcome.estimate
            self._ask("keep", stamp, estimate.status, estimate.reason, outcome.decision)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=map_set_server.run, args=(theirs,), name="pixloc_maps", daemon=True
        )
        with self._lock:
            if self._closed:
                raise ProcessLost("closed")
            with _without_interrupts():
                process.start()
            self._child = _Child(process, ours)
        theirs.close()

    def _ask(self, *message: Any) -> None:
        child = self._child
        if child is None:
            raise ProcessLost("closed")
        try:
            send(child.connection, *message)
        except OSError:
            raise self._lost() from None

    def _hear(self, deadline: float | None) -> tuple[Any, ...]:
        """The next message that is not for others. deadline: None waits as long as it lives."""
        while True:
            child = self._child
            if child is None:
                raise ProcessLost("closed")
            try:
                left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                if not child.connection.poll(left):
                    self._end()
                    raise ProcessLost(
                        f"the process that localizes hung: no answer for {PATIENCE:g} s"
                    )
                message = receive(child.connection)
            except (EOFError, OSError):
                raise self._lost() from None
            if message[0] == "said":
                self._say(message[1])
            elif message[0] == "warned":
                self._trouble(message[1])
            elif message[0] == "trouble":
                if self.facts is not None:
                    self.facts = replace(self.facts, record="")
                self._trouble(message[1])
            else:
                return message

    def _lost(self) -> ProcessLost:
        """What became of the process, which is then ended."""
        child = self._child
        if child is None or self._closed:
            return ProcessLost("closed")
        child.process.join(2.0)
        code = child.process.exitcode
        self._end()
        if code == -signal.SIGKILL:
            return ProcessLost("the process that localizes was killed (out of memory?)")
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            return ProcessLost(f"the process that localizes was ended by {name}")
        return ProcessLost(f"the process that localizes ended with exit code {code}")

    def _share(self, images: Sequence[np.ndarray]) -> tuple[str, list[Shared]]:
        """Images one after the other in shared memory, and where."""
        needed = sum(image.nbytes for image in images)
        memory = self._memory
        if memory is None or memory.size < needed:
            self._free()
            memory = self._memory = SharedMemory(create=True, size=max(needed, 1))
        assert memory.buf is not None
        begin, places = 0, []
        for image in images:
            there = np.frombuffer(memory.buf, np.uint8, image.nbytes, begin)
            there[:] = image.reshape(-1)
            places.append(Shared(begin, image.shape))
            begin += image.nbytes
        return memory.name, places

    def _free(self) -> None:
        if self._memory is not None:
            with suppress(FileNotFoundError):
                self._memory.unlink()
            with suppress(BufferError):
                self._memory.close()
        self._memory = None

    def _end(self) -> None:
        with self._lock:
            child, self._child = self._child, None
        if child is None:
            return
        child.process.kill()
        child.process.join()
        child.connection.close()

    def close(self) -> None:
        """End the process; whoever waits for an answer gets ProcessLost."""
        self._closed = True
        child = self._child
        if child is not None and self.facts is not None and self.facts.record:
            # what it still writes is written
            with suppress(OSError):
                child.connection.close()
            child.process.join(2.0)
        self._end()
        self._free()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started meanwhile begins with Ctrl-C held back, until it ignores it."""
    # which lets signals through again when it is started with the first process
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
