"""`completion`: what a shell needs to complete commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from pixloc_ros.cli.options import Parser
from pixloc_ros.errors import InputError

PROGRAM = "pixloc_ros"
"""What pip installs; a shell cannot tell `python -m pixloc_ros` from other modules."""
SHELLS = ("bash", "zsh", "tcsh")


def make_parser() -> Parser:
    parser = Parser(
        "completion",
        f"Print what a shell needs to complete `{PROGRAM} COMMAND --option`.",
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_args(arguments)
    try:
        import shtab
    except ImportError:
        raise InputError("completion needs shtab (pip install 'pixloc_ros[completion]')") from None
    paths = {"DIR": shtab.DIRECTORY} | dict.fromkeys(("FILE", "MAP", "RUN", "REPORT"), shtab.FILE)
    # here, as it names this module, too
    from pixloc_ros.cli.main import COMMANDS

    whole = argparse.ArgumentParser(PROGRAM)
    commands = whole.add_subparsers()
    for name, about in COMMANDS.items():
        module = import_module(f"pixloc_ros.cli.{name}")
        parsers = [module.make_parser()] if hasattr(module, "make_parser") else []
        command = commands.add_parser(name, help=about, parents=parsers, add_help=not parsers)
        for action in command._actions:
            metavar = str(action.metavar).partition(".")[0]
            if metavar in paths:
                action.complete = paths[metavar]  # type: ignore[attr-defined]
    print(shtab.complete(whole, given.shell))
    return 0
