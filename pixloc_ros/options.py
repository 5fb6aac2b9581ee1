"""Configuration dataclasses: devices by name and `key=value` overrides."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TypeVar

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pixloc_ros.errors import InputError

Options = TypeVar("Options")


def threads_beside_others() -> int:
    """Threads that leave a core to others, where there are more than two."""
    cores = len(os.sched_getaffinity(0))
    return min(torch.get_num_threads(), cores - 1 if cores > 2 else cores)


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


def load_options(
    options: Options, path: str | os.PathLike[str], overrides: Sequence[str]
) -> Options:
    """A configuration dataclass with a YAML file's entries, then `key.sub=value` entries.

    Raises InputError for a file that cannot be read, an unknown key or a wrong type.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such configuration")
    try:
        content = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: not YAML ({str(error).splitlines()[0]})") from None
    if not OmegaConf.is_dict(content):
        raise InputError(f"{path}: a configuration is a mapping of keys to values")
    try:
        given = list(_leaves(OmegaConf.to_container(content)))
        _require_known(options, [key for key, _ in given])
        merged = OmegaConf.merge(OmegaConf.structured(options), content)
        read = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {error.full_key}: {str(error).splitlines()[0]}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return override(read, overrides)  # type: ignore[type-var,return-value]


def _leaves(content: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, f"{prefix}{key}.")
    else:
        yield prefix.rstrip("."), content


def _require_known(options: object, keys: Sequence[str]) -> None:
    known = list(_keys(options))
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.0)
            raise InputError(f"unknown setting {key!r}; the nearest is {near[0]!r}")


def override(options: Options, overrides: Sequence[str]) -> Options:
    """A copy of a configuration dataclass with `key.sub=value` entries applied.

    Raises InputError for an unknown key, naming the nearest known one, or a wrong type.
    """
    for entry in overrides:
        key, equals, _ = entry.partition("=")
        if not equals:
            raise InputError(f"{entry!r}: expected key=value")
        _require_known(options, [key])
    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(options), OmegaConf.from_dotlist(list(overrides))
        )
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise InputError(f"setting {error.full_key}: {str(error).splitlines()[0]}") from None
    except YAMLError:
        raise InputError(f"settings {' '.join(overrides)!r}: a value cannot be read") from None
