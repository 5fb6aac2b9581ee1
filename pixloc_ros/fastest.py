"""The fastest of several ways to do the same thing, found by measuring on this machine."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch

from pixloc_ros import __version__
from pixloc_ros.kept import kept_folder

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Prepare = Callable[[], Callable[[], Answer]]
"""Makes one way ready to be run; what it returns does the work once."""

ROUNDS = 5
"""How often each way is timed; its shortest time counts, since others may use the machine."""

HOPELESS = 2.0
"""A way that takes this many times as long as the fastest is not timed again."""

SLOW_START = 10.0
"""A way whose first run takes this many times the fastest's is taken for that slow."""

REMEMBERED = 100
"""Choices that are kept from run to run."""

_LIBRARIES = ("torch", "numpy", "onnxruntime")
_LIMITS = ("ONEDNN_", "DNNL_", "MKL_", "ATEN_CPU", "OPENBLAS_", "OMP_")
"""Beginnings of environment variables that limit what libraries use of a processor."""


@dataclass(frozen=True)
class Choice:
    """name: of the fastest way whose answers agree. ms: a run of each way that was timed.
    refused: why the others were not taken.
    """

    name: str
    ms: dict[str, float]
    refused: dict[str, str]

    def __str__(self) -> str:
        others = [f"{name} {ms:.0f} ms" for name, ms in self.ms.items() if name != self.name]
        others += [f"{name}: {why}" for name, why in self.refused.items()]
        beside = f" ({'; '.join(others)})" if others else ""
        return f"{self.name} {self.ms[self.name]:.0f} ms{beside}"


def processor() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def multiplies(precision: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has instructions for products of `precision`, as far as it says so.

    Without them a network in bfloat16 takes seconds, too long even to find out.
    """
    if precision != "bfloat16":
        return True
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return True
    flags = next((x.split(":", 1)[1].split() for x in lines if x.startswith(_FLAGS)), None)
    return flags is None or not _BFLOAT16.isdisjoint(flags)


_FLAGS = ("flags", "Features")
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
"""What Linux calls them, on x86 and Arm."""


def fastest(
    what: str, ways: Mapping[str, Prepare[Answer]], differs: Callable[[Answer, Answer], str]
) -> Choice:
    """Time all ways, and choose; remembered for this machine, these libraries and threads.

    what: names the work and its sizes; another name is measured anew. ways: the first is the
    reference and always works. differs: (answer, that of the reference) -> why the answer cannot
    be taken for the reference's, or an empty string.
    """
    key = _key(what, list(ways))
    known = _remembered().get(key)
    if known is not None:
        return known
    choice = _measured(ways, differs)
    _remember(key, choice)
    return choice


def _measured(
    ways: Mapping[str, Prepare[Answer]], differs: Callable[[Answer, Answer], str]
) -> Choice:
    reference = next(iter(ways))
    runs: dict[str, Callable[[], Answer]] = {}
    best: dict[str, float] = {}
    refused: dict[str, str] = {}
    wanted: Answer | None = None
    for name, prepare in ways.items():
        if name != reference and not multiplies(name.rpartition("_")[2]):
            refused[name] = "the processor does not multiply it"
            continue
        try:
            run = prepare()
            first, answer = _timed(run)
            # the first run takes memory and compiles; one of seconds needs no second
            limit = SLOW_START * min(best.values(), default=math.inf)
            taken = first if first > limit else min(first, _timed(run)[0])
        except ImportError:
            refused[name] = "not installed"
            continue
        # libraries that find a processor or a graph unfit raise whatever they like
        except Exception as error:
            if name == reference:
                raise
            log.debug("%s cannot be used", name, exc_info=True)
            refused[name] = (str(error).splitlines() or [type(error).__name__])[0][:80]
            continue
        if name == reference:
            wanted = answer
        else:
            assert wanted is not None
            why = differs(answer, wanted)
            if why:
                refused[name] = why
                continue
        runs[name], best[name] = run, taken
    for _ in range(ROUNDS):
        limit = HOPELESS * min(best.values())
        for name, run in runs.items():
            if best[name] <= limit:
                best[name] = min(best[name], _timed(run)[0])
    ms = {name: 1e3 * seconds for name, seconds in best.items()}
    return Choice(min(ms, key=lambda name: ms[name]), ms, refused)


def _timed(run: Callable[[], Answer]) -> tuple[float, Answer]:
    begun = time.perf_counter()
    answer = run()
    return time.perf_counter() - begun, answer


def _key(what: str, names: list[str]) -> str:
    versions = []
    for library in _LIBRARIES:
        try:
            versions.append(metadata.version(library))
        except metadata.PackageNotFoundError:
            versions.append("")
    limits = sorted(
        (name, value) for name, value in os.environ.items() if name.startswith(_LIMITS)
    )
    identity = [
        *(what, names, processor(), torch.get_num_threads()),
        *(__version__, versions, limits),
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def _file() -> Path | None:
    folder = kept_folder()
    return None if folder is None else folder / "fastest.json"


def _remembered() -> dict[str, Choice]:
    """What is not readable is measured again."""
    file = _file()
    try:
        content: dict[str, Any] = json.loads(file.read_text()) if file is not None else {}
        return {key: Choice(**entry) for key, entry in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _remember(key: str, choice: Choice) -> None:
    file = _file()
    if file is None:
        return
    kept = list((_remembered() | {key: choice}).items())[-REMEMBERED:]
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps({k: asdict(c) for k, c in kept}, indent=1) + "\n")
        partial.replace(file)
    except OSError:
        log.debug("%s cannot be written", file, exc_info=True)
        partial.unlink(missing_ok=True)
