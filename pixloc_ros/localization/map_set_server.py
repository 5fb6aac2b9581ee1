"""What runs in the process that holds maps and network: it loads them and answers, one by one.

Messages over the pipe are tuples whose first entry names them. To the process: `serve` settings,
`localize` a moment, `keep` the last answer in the recording. From it: `said` while it loads,
`serving` or `failed` after `serve`, `answer` or `raised` after `localize`, `trouble` of the
recording.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixloc_ros.alignment.kernels import backend
from pixloc_ros.errors import InputError
from pixloc_ros.features import FeatureNetwork, open_network
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization.learning import Learner
from pixloc_ros.localization.map_set import MapSet, require_own_frames
from pixloc_ros.localization.options import LocalizerOptions
from pixloc_ros.localization.pipeline import Decision
from pixloc_ros.localization.result import LocalizationResult, Prior, Status
from pixloc_ros.localization.run_container import RunError
from pixloc_ros.localization.run_file import RunWriter
from pixloc_ros.localization.views import View
from pixloc_ros.options import select_device, threads_beside_others

SAY_EVERY = 5.0
"""Seconds between words of a compilation that takes long."""

SACRIFICED = 500
"""What is added to the badness by which Linux chooses whom to kill when memory runs out."""


@dataclass(frozen=True)
class MapSetSettings:
    """What is served. path: a map file or a folder of them. weights: empty for the default
    network. num_threads: 0 leaves a core to others, where there are more than two. frame: of maps
    without one in frames.yaml. robot_frames: which no map may be in. record: a run file, or empty.
    learn, keep_frames, keep_mb: see `learning.Learner`.
    """

    path: str
    weights: str = ""
    device: str = "auto"
    num_threads: int = 0
    cache_mb: float = 512.0
    options: LocalizerOptions | None = None
    frame: str = "map"
    robot_frames: tuple[str, ...] = ()
    record: str = ""
    learn: str = "none"
    keep_frames: str = ""
    keep_mb: float = 500.0


@dataclass(frozen=True)
class SiteFacts:
    """One map that is served. path: its file."""

    name: str
    frame: str
    path: Path
    references: int
    points: int


@dataclass(frozen=True)
class MapSetFacts:
    """What is served. weights_hash: of the network, which other maps must have too."""

    path: str
    submaps: tuple[SiteFacts, ...]
    architecture: str
    weights_hash: str
    device: str
    record: str

    @property
    def references(self) -> int:
        return sum(submap.references for submap in self.submaps)

    @property
    def points(self) -> int:
        return sum(submap.points for submap in self.submaps)

    @property
    def frames(self) -> frozenset[str]:
        return frozenset(submap.frame for submap in self.submaps)


@dataclass(frozen=True)
class Shared:
    """Where an image lies in shared memory."""

    begin: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Health:
    """Memory of the process and what it holds of the device's, MiB."""

    resident_mb: float = 0.0
    device_mb: float = 0.0


def send(connection: Connection, *message: Any) -> None:
    """Plain pickles: torch's own would pass tensors by files in shared memory."""
    connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def receive(connection: Connection) -> tuple[Any, ...]:
    """Raises EOFError where the other side is gone."""
    return pickle.loads(connection.recv_bytes())


def resident_mb() -> float:
    """Memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def unused(path: Path) -> Path:
    """The path, or with a number where there is such a file: a recording is never lost."""
    number, candidate = 1, path
    while candidate.exists():
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate


def run(connection: Connection) -> None:
    """The process: answers until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which ends this
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(SACRIFICED))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    server = _Server(connection)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            server.answer(*receive(connection))
    server.close()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class _Server:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._map_set: MapSet | None = None
        self._network: FeatureNetwork | None = None
        self._weights = ""
        self._writer: RunWriter | None = None
        self._learner: Learner | None = None
        self._memory: SharedMemory | None = None
        # the last answer, until it is known what became of it
        self._last: tuple[list[View], Prior | None, LocalizationResult] | None = None

    def answer(self, kind: str, *arguments: Any) -> None:
        asked: dict[str, Callable[..., None]] = {
            "serve": self._serve,
            "localize": self._localize,
            "keep": self._keep,
        }
        asked[kind](*arguments)

    def _say(self, text: str) -> None:
        send(self._connection, "said", text)

    def _warn(self, text: str) -> None:
        send(self._connection, "warned", text)

    def _serve(self, settings: MapSetSettings) -> None:
        try:
            facts = self._load(settings)
        except InputError as error:
            send(self._connection, "failed", str(error))
            return
        send(self._connection, "serving", facts)

    def _load(self, settings: MapSetSettings) -> MapSetFacts:
        """What was served before goes on where this cannot be."""
        torch.set_num_threads(settings.num_threads or threads_beside_others())
        device = select_device(settings.device)
        with self._compiling(device):
            network = self._network
            if network is None or settings.weights != self._weights:
                network = open_network(settings.weights or None).to(device)
            map_set = MapSet(
                settings.path, network, settings.options, settings.cache_mb, settings.frame
            )
        writer = None
        try:
            require_own_frames(settings.path, map_set.frames, settings.robot_frames)
            if settings.record:
                count = len(map_set.submaps)
                if count > 1:
                    raise InputError(
                        f"parameter record: {settings.path} has {count} maps, not one"
                    )
                path = unused(Path(settings.record))
                writer = RunWriter(path, map_set.submap.localizer.map)
            chosen = map_set.warm_up()
        except InputError:
            map_set.close()
            raise
        for words in chosen:
            self._say(words)
        self.close()
        self._map_set, self._network, self._weights = map_set, network, settings.weights
        self._writer = writer
        kept = (settings.keep_frames, settings.keep_mb)
        self._learner = Learner(map_set, settings.learn, self._warn, *kept)
        return self._facts(settings.path)

    def _facts(self, path: str) -> MapSetFacts:
        assert self._map_set is not None
        assert self._network is not None
        submaps = tuple(
            SiteFacts(
                submap.name,
                submap.frame,
                submap.localizer.map.path,
                len(submap.localizer.map),
                submap.localizer.map.point_count,
            )
            for submap in self._map_set.submaps
        )
        network = self._network
        return MapSetFacts(
            path,
            submaps,
            network.architecture,
            network.weights_hash(),
            str(network.device),
            "" if self._writer is None else str(self._writer.path),
        )

    @contextmanager
    def _compiling(self, device: torch.device) -> Iterator[None]:
        """Has kernels compiled meanwhile where they must be, says so, and goes on saying it."""
        if not backend.is_cold(device):
            yield
            return
        begun = time.monotonic()
        self._say("compiling kernels, once an installation")
        thread = threading.Thread(target=backend.fused, args=(device,), daemon=True)
        thread.start()
        yield
        while True:
            thread.join(SAY_EVERY)
            took = f"{time.monotonic() - begun:.0f} s"
            if not thread.is_alive():
                break
            self._say(f"compiling kernels: {took}")
        self._say(f"kernels compiled within {took}")

    def _localize(
        self,
        memory: str,
        images: Sequence[Shared],
        cameras: Sequence[Camera],
        mounts: Sequence[Pose],
        prior: Prior | None,
        frame: str,
    ) -> None:
        assert self._map_set is not None
        try:
            views = [
                View(self._image(memory, image), camera, mount)
                for image, camera, mount in zip(images, cameras, mounts, strict=True)
            ]
            traced = self._writer is not None
            result = self._map_set.localize_views(views, prior, frame, traced)
        except torch.cuda.OutOfMemoryError:
            result = self._without_gpu()
        except Exception as error:
            send(self._connection, "raised", f"{type(error).__name__}: {error}")
            return
        kept = self._writer is not None or (self._learner is not None and self._learner.wanted)
        self._last = (views, prior, result) if kept else None
        send(self._connection, "answer", replace(result, trace=None), self._health())

    def _without_gpu(self) -> LocalizationResult:
        assert self._map_set is not None
        assert self._network is not None
        torch.cuda.empty_cache()
        self._network = self._network.cpu()
        self._map_set.move(self._network)
        reason = "the GPU is out of memory: going on, slower, on the CPU"
        self._say(reason)
        return LocalizationResult(Status.FAILED, reason)

    def _image(self, name: str, image: Shared) -> np.ndarray:
        if self._memory is None or self._memory.name != name:
            if self._memory is not None:
                self._memory.close()
            self._memory = SharedMemory(name)
        size = int(np.prod(image.shape))
        assert self._memory.buf is not None
        flat = np.frombuffer(self._memory.buf, np.uint8, size, image.begin)
        # the next moment is written over it, and this one may still have to be recorded
        return flat.reshape(image.shape).copy()

    def _health(self) -> Health:
        device = self._network.device if self._network is not None else torch.device("cpu")
        held = torch.cuda.memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
        return Health(resident_mb(), held)

    def _keep(self, stamp: float, status: Status, reason: str, decision: Decision) -> None:
        if self._last is None:
            return
        views, prior, result = self._last
        if self._learner is not None and decision is Decision.FIX:
            self._learner.add(result, views, stamp)
        elif self._learner is not None and decision is Decision.REFUSED and prior is not None:
            self._learner.add_refusal(result, views, prior, stamp)
        if self._writer is None:
            return
        judged = replace(result, status=status, reason=reason)
        try:
            self._writer.add(f"{stamp:.6f}", stamp, views, prior, judged, decision)
        except RunError as error:
            self._end_recording()
            send(self._connection, "trouble", f"recording ends: {error}")

    def _end_recording(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def close(self) -> None:
        if self._map_set is not None:
            self._end_recording()
            if self._learner is not None:
                self._learner.close()
            self._map_set.close()
        self._map_set = None
