"""What every kind of input becomes, and what it is given to work with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pixloc_ros.errors import InputError
from pixloc_ros.features import FeatureNetwork
from pixloc_ros.left_out import LeftOut
from pixloc_ros.mapping.sparse_model import SparseModel


class Stages:
    """Seconds that each stage of a build takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    def as_text(self, images: int) -> str:
        parts = ", ".join(f"{name} {s:.1f} s" for name, s in self.seconds.items())
        return f"{sum(self.seconds.values()) / images:.2f} s an image: {parts}"


class Bar(Protocol):
    """Shows how far a loop is."""

    def __call__(self, items: Iterable[Any], *, total: int, unit: str, desc: str) -> Iterable[Any]:
        """The items, as they are."""


def no_bar(items: Iterable[Any], *, total: int, unit: str, desc: str) -> Iterable[Any]:
    return items


@dataclass(frozen=True)
class Work:
    """folder: what lies in between. say: takes lines for the user. bar: shows progress."""

    folder: Path
    network: FeatureNetwork
    say: Callable[[str], None] = lambda line: None
    bar: Bar = no_bar
    stages: Stages = field(default_factory=Stages)

    def say_left_out(self, left_out: LeftOut) -> None:
        if left_out:
            self.say(left_out.as_text())


MARKER = ".pixloc_work"
"""Stands in a work folder: what else is there was made by a build, and may be thrown away."""

OURS = (MARKER, "made_from.json", "keyframes.json")


def require_own(folder: Path) -> None:
    """Raise InputError for a work folder that holds files of someone else."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file, not a folder to work in")
    there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if there and not any(name in OURS for name in there):
        raise InputError(
            f"{folder}: holds {sorted(there)[0]}, which no build made; a work folder is a new "
            "one, or one of an earlier build"
        )


def claim(folder: Path) -> None:
    """Make a work folder of a folder, when there is something to put into it."""
    require_own(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


@dataclass(frozen=True)
class Source:
    """A sparse model with the folder of its images.

    provenance: what of the map's entry there this tells. begun: when the images were taken,
    seconds since 1970, where that is known.
    """

    model: SparseModel
    images: Path
    provenance: Mapping[str, object]
    begun: float | None = None
