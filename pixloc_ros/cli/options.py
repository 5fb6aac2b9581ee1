"""Options that several commands share, and `key=value` overrides of configurations."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import TypeVar

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pixloc_ros.errors import InputError
from pixloc_ros.features import FeatureNetwork, open_network

Options = TypeVar("Options")


class Parser(argparse.ArgumentParser):
    """The parser of one command, named as the user calls it."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"python -m pixloc_ros {command}",
            description=description,
            allow_abbrev=False,
        )

    def add_network(self) -> None:
        self.add_argument(
            "--weights", metavar="FILE", help="network checkpoint (default: the compact network)"
        )
        self.add_argument(
            "--device",
            choices=("auto", "cpu", "cuda"),
            default="auto",
            help="where the network runs (auto: CUDA when there is one)",
        )

    def add_overrides(self) -> None:
        self.add_argument(
            "overrides",
            nargs="*",
            metavar="key=value",
            help="localizer settings, for example references=3 lm.iterations=30",
        )


def select_device(name: str) -> torch.device:
    """The torch device of --device. Raises InputError when CUDA is asked for but absent."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("--device cuda: no CUDA device is available; use --device cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def network_of(arguments: argparse.Namespace) -> FeatureNetwork:
    return open_network(arguments.weights).to(select_device(arguments.device))


def _keys(options: object, prefix: str = "") -> Iterator[str]:
    for entry in fields(options):  # type: ignore[arg-type]
        value = getattr(options, entry.name)
        if is_dataclass(value):
            yield from _keys(value, f"{prefix}{entry.name}.")
        else:
            yield prefix + entry.name


def override(options: Options, overrides: Sequence[str]) -> Options:
    """A copy of a configuration dataclass with `key.sub=value` entries applied.

    Raises InputError for an unknown key, naming the nearest known one, or a wrong type.
    """
    known = list(_keys(options))
    for entry in overrides:
        key, equals, _ = entry.partition("=")
        if not equals:
            raise InputError(f"{entry!r}: expected key=value")
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.0)
            raise InputError(f"unknown setting {key!r}; the nearest is {near[0]!r}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(options), OmegaConf.from_dotlist(list(overrides)))
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise InputError(f"setting {error.full_key}: {str(error).splitlines()[0]}") from None
