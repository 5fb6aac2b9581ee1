"""Configuration dataclasses: devices by name and `key=value` overrides."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import TypeVar

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pixloc_ros.errors import InputError

Options = TypeVar("Options")


def select_device(name: str) -> torch.device:
    """The torch device called auto, cpu or cuda. Raises InputError when CUDA is absent."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("device cuda: no CUDA device is available; use cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


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
        merged = OmegaConf.merge(
            OmegaConf.structured(options), OmegaConf.from_dotlist(list(overrides))
        )
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise InputError(f"setting {error.full_key}: {str(error).splitlines()[0]}") from None
    except YAMLError:
        raise InputError(f"settings {' '.join(overrides)!r}: a value cannot be read") from None
