"""Joining what many robots found of a map, by the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pixloc_ros import ray_pool
from pixloc_ros.mapping.health import HealthError, MapHealth
from pixloc_ros.mapping.map_file import PixMap
from pixloc_ros.worker_pool import Lost


def join_by_cluster(
    health: MapHealth, map_file: Path, files: Sequence[Path], workers: int, address: str
) -> None:
    """Add to the health of a map what the files of other robots know, as `MapHealth.join` does.

    Each worker joins a part of the files to one; those few are joined here. As joining is
    commutative, associative and idempotent, parts may come in any order, and a part whose worker
    died may be joined again. Every machine sees map and files under the same paths. Raises
    InputError; all that was joined before stays.
    """
    parts = [list(files[first::workers]) for first in range(min(workers, len(files)))]
    answers = ray_pool.spread(partial(_joiner, map_file), parts, workers, address)
    with TemporaryDirectory() as folder:
        for number, joined in answers:
            if isinstance(joined, Lost):
                raise HealthError(f"{parts[number][0]} and others are not joined: {joined}")
            part = Path(folder) / f"{number}"
            part.write_bytes(joined)
            health.join(part)


def _joiner(map_file: Path) -> Callable[[Sequence[Path]], bytes]:
    """Makes one file, whose bytes it returns, of several."""

    def join(files: Sequence[Path]) -> bytes:
        with TemporaryDirectory() as folder, PixMap(map_file) as pixmap:
            made = Path(folder) / "joined"
            with MapHealth(pixmap, made, "") as health:
                for file in files:
                    health.join(file)
            return made.read_bytes()

    return join
