"""Tasks spread over a Ray cluster, with the same answers as those of one process."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

from pixloc_ros.errors import InputError
from pixloc_ros.worker_pool import TRIES, Lost, Work


def _require_answer(address: str) -> None:
    """Ray itself waits for minutes. Raises InputError where nothing listens."""
    host, colon, port = address.rsplit("/", 1)[-1].rpartition(":")
    if not (colon and port.isdigit()):
        return  # a name that Ray knows, as `auto`
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise InputError(f"--ray {address}: {error.strerror or error}") from None


def spread(
    prepare: Callable[[], Work], tasks: Sequence[Any], workers: int, address: str
) -> Generator[tuple[int, Any], None, None]:
    """As `worker_pool.spread`, on the machines of a cluster. address: as `ray.init` takes it.

    Every machine sees the files under the same paths. Raises InputError where Ray is not
    installed, no cluster answers, or a worker cannot be prepared.
    """
    try:
        import ray
        from ray.exceptions import RayActorError, RayTaskError
    except ImportError as error:
        raise InputError(f"--ray needs Ray: pip install 'pixloc_ros[ray]' ({error})") from None
    _require_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"--ray {address}: {str(error).splitlines()[0]}") from None

    class Worker:
        def __init__(self) -> None:
            self._work: Work | None = None

        def answer(self, task: Any) -> Any:
            if self._work is None:
                # with the one thread that Ray gives an actor of one processor
                self._work = prepare()
            return self._work(task)

    actor: Any = ray.remote(Worker)
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0

    def hire() -> Any:
        return actor.options(num_cpus=1, num_gpus=gpus).remote()

    left, deaths = deque(range(len(tasks))), [0] * len(tasks)
    running: dict[Any, tuple[int, Any]] = {}
    idle = [hire() for _ in range(min(max(workers, 1), len(tasks)))]
    try:
        while left or running:
            while left and idle:
                number, worker = left.popleft(), idle.pop()
                running[worker.answer.remote(tasks[number])] = number, worker
            (ready, *_), _ = ray.wait(list(running), num_returns=1)
            number, worker = running.pop(ready)
            try:
                answer = ray.get(ready)
            except RayActorError as error:
                idle.append(hire())
                deaths[number] += 1
                if deaths[number] < TRIES:
                    left.append(number)
                    continue
                reason = str(error).strip().splitlines()[0]
                answer = Lost(f"{TRIES} processes died over it: {reason}")
            except RayTaskError as error:
                if isinstance(error.cause, InputError):
                    raise InputError(str(error.cause)) from None
                raise
            else:
                idle.append(worker)
            yield number, answer
    finally:
        ray.shutdown()
