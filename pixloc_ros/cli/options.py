"""The command-line options that several commands share."""

from __future__ import annotations

import argparse

from pixloc_ros.features import FeatureNetwork, open_network
from pixloc_ros.options import select_device


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


def network_of(arguments: argparse.Namespace) -> FeatureNetwork:
    return open_network(arguments.weights).to(select_device(arguments.device))
