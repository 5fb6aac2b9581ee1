"""Ctrl-C and SIGTERM, both a KeyboardInterrupt here, where Python alone would lose them.

The handlers of signals belong to the process and its main thread; so does what is held here.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")

AGAIN_S = 0.01

_handlers: dict[int, Any] = {}
"""Who is told when nothing is held any more; empty while nothing is."""
_came: list[int] = []


def interrupt(*_: object) -> None:
    """The handler of a signal that ends the program."""
    raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """An interrupt that comes meanwhile takes effect at the end, or in the next `interruptible`.

    For libraries that cannot be left in the middle: an exception in one of its callbacks is a
    broken disk to HDF5, or a crash.
    """
    if _handlers or not _in_main_thread():
        yield
        return
    try:
        _hold()
        yield
    finally:
        _release()


@contextmanager
def let_through() -> Iterator[None]:
    """Inside of `held`: what can be interrupted."""
    if not _handlers or not _in_main_thread():
        yield
        return
    try:
        _release()
        yield
    finally:
        _hold()


def interruptible(items: Iterable[Item]) -> Iterator[Item]:
    """The items; inside of `held`, interrupts take effect where they are waited for."""
    iterator = iter(items)
    while True:
        with let_through():
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


@contextmanager
def never_ignored() -> Iterator[None]:
    """An interrupt that falls into a finalizer, where Python ignores it, comes again."""
    hook = sys.unraisablehook

    def ignored(what: sys.UnraisableHookArgs) -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            # not at once, when it would fall into this very finalizer
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        else:
            hook(what)

    sys.unraisablehook = ignored
    try:
        yield
    finally:
        sys.unraisablehook = hook


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _hold() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        _handlers[number] = signal.signal(number, lambda number, _: _came.append(number))


def _release() -> None:
    while _handlers:
        signal.signal(*_handlers.popitem())
    if _came:
        number = _came[0]
        _came.clear()
        signal.raise_signal(number)
