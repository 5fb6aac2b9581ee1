"""Tasks spread over processes that may die."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from pixloc_ros.errors import InputError

Work = Callable[[Any], Any]

TRIES = 3
"""Deaths of workers over one task after which the task is given up."""


class Lost(RuntimeError):
    """A task that killed every worker that tried it."""


def _serve(connection: Connection, prepare: Callable[[], Work], number: int) -> None:
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    try:
        work = prepare()
    except InputError as error:
        connection.send(error)
        return
    answer = None
    while True:
        # nobody may wait for it any more
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send(answer)
        try:
            task = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        answer = work(task)


class _Worker:
    def __init__(self, prepare: Callable[[], Work], number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, prepare, number), daemon=True)
        self._process.start()
        theirs.close()
        self.task: int | None = None
        self.ready = False

    def stop(self) -> None:
        self.connection.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def spread(
    prepare: Callable[[], Work], tasks: Sequence[Any], workers: int
) -> Generator[tuple[int, Any], None, None]:
    """(number of the task, its answer) as answers come; with no workers, here and in order.

    A task has one thread of its process: sums over threads differ in their last digits, and
    answers must not depend on how many processes there are.
    prepare: makes, in each process, what turns a task into its answer; both are picklable. A
    worker that dies is replaced and its task done again; after `TRIES` deaths its answer is a
    `Lost`. Raises InputError where a worker could not be prepared.
    """
    if workers < 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            work = prepare()
            yield from ((number, work(task)) for number, task in enumerate(tasks))
        finally:
            torch.set_num_threads(threads)
        return
    left, deaths = deque(range(len(tasks))), [0] * len(tasks)
    pool = [_Worker(prepare, n) for n in range(min(workers, len(tasks)))]
    open_tasks, unprepared = len(tasks), 0
    try:
        while open_tasks:
            for connection in wait([worker.connection for worker in pool]):
                number = next(i for i, w in enumerate(pool) if w.connection is connection)
                worker = pool[number]
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    worker.stop()
                    pool[number] = _Worker(prepare, number)
                    if worker.task is None:
                        unprepared += 1
                        if unprepared >= TRIES * len(pool):
                            raise Lost("workers die before they have done anything") from None
                        continue
                    deaths[worker.task] += 1
                    if deaths[worker.task] < TRIES:
                        left.append(worker.task)
                        continue
                    open_tasks -= 1
                    yield worker.task, Lost(f"{TRIES} processes died over it")
                    continue
                if not worker.ready:
                    if isinstance(answer, InputError):
                        raise answer
                    worker.ready = True
                elif worker.task is not None:
                    open_tasks -= 1
                    yield worker.task, answer
                worker.task = left.popleft() if left else None
                if worker.task is not None:
                    worker.connection.send(tasks[worker.task])
            # a task that came back while others were idle
            for worker in pool:
                if left and worker.ready and worker.task is None:
                    worker.task = left.popleft()
                    worker.connection.send(tasks[worker.task])
    finally:
        for worker in pool:
            worker.stop()
