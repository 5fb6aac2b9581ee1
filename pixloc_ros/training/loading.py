"""Batches made ahead: prepared by worker processes, finished while the GPU is busy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from pixloc_ros.training.batch import PairBatch


class PairSource(Protocol):
    """Where batches come from: `prepare` may run in another process, `finish` does not."""

    @property
    def prepare(self) -> Callable[[int, Sequence[int]], Any]: ...

    @property
    def samples(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def finish(self, step: int, samples: Sequence[int], prepared: Any) -> PairBatch: ...


class _Steps(Dataset):
    def __init__(self, source: PairSource, samples: Sequence[int], steps: range) -> None:
        # the source itself stays in this process, only what prepares travels to the workers
        self.prepare, self.samples, self.steps = source.prepare, samples, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Any:
        if index >= len(self.steps):
            raise IndexError(index)
        torch.set_num_threads(1)
        return self.prepare(self.steps[index], self.samples)


def _prepared(
    source: PairSource, samples: Sequence[int], steps: range, workers: int
) -> Iterator[tuple[int, Any]]:
    if not workers:
        for step in steps:
            yield step, source.prepare(step, samples)
        return
    loader = DataLoader(
        _Steps(source, samples, steps),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="spawn",
    )
    yield from zip(steps, loader, strict=True)


def batches(
    source: PairSource, samples: Sequence[int], steps: range, workers: int = 0
) -> Iterator[PairBatch]:
    """The batches of steps, prepared ahead by worker processes if there are any."""
    made = (source.finish(n, samples, p) for n, p in _prepared(source, samples, steps, workers))
    return made if source.device.type == "cpu" else _ahead(made, source.device)


def _ahead(made: Iterator[PairBatch], device: torch.device) -> Iterator[PairBatch]:
    """Batches made by a thread on a stream of its own, while the GPU works on the last one."""
    waiting: queue.Queue[Any] = queue.Queue(maxsize=1)
    ended = threading.Event()
    side = torch.cuda.Stream(device)

    def put(item: Any) -> None:
        while not ended.is_set():
            with suppress(queue.Full):
                return waiting.put(item, timeout=0.5)

    def work() -> None:
        try:
            with torch.cuda.stream(side):
                for batch in made:
                    put((batch, side.record_event()))
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            batch, event = item
            current = torch.cuda.current_stream(device)
            current.wait_event(event)
            batch.record_stream(current)
            yield batch
    finally:
        ended.set()
        thread.join()
