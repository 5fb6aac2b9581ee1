"""The contracts between the rooms, of `lint-imports`, leave none out."""

from __future__ import annotations

from pathlib import Path
from pkgutil import iter_modules

import pytest

import pixloc_ros
import pixloc_ros.cli

tomllib = pytest.importorskip("tomllib", reason="part of Python from 3.11 on")
CONTRACTS = {
    contract["name"]: contract
    for contract in tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())[
        "tool"
    ]["importlinter"]["contracts"]
}


def modules(package, without):
    names = {f"{package.__name__}.{module.name}" for module in iter_modules(package.__path__)}
    return names - {f"{package.__name__}.{name}" for name in without}


def test_every_room_has_its_layer():
    layers = CONTRACTS["Rooms depend downwards only"]["layers"]
    named = {name.strip() for layer in layers for name in layer.replace("|", ":").split(":")}
    assert named == modules(pixloc_ros, ())


def test_every_room_but_one_is_kept_from_ros():
    named = CONTRACTS["Only ros/ knows ROS"]["source_modules"]
    assert set(named) == modules(pixloc_ros, ("ros",))


def test_every_command_is_kept_from_the_node():
    named = CONTRACTS["Nothing imports ros/ but the commands that run it"]["source_modules"]
    assert set(named) == modules(pixloc_ros.cli, ("demo", "localization_node"))
