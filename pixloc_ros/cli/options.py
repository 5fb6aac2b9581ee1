"""The command-line options that several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pixloc_ros.errors import InputError
from pixloc_ros.features import FeatureNetwork, open_network
from pixloc_ros.geometry import Camera, CameraError
from pixloc_ros.options import select_device
from pixloc_ros.sensors.calibration_files import read_camera

CAMERA = "FILE|'MODEL w h params'"
"""What `--camera` takes: Kalibr's or ROS' calibration as YAML, or COLMAP's words."""


class Parser(argparse.ArgumentParser):
    """The parser of one command, named as the user calls it."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"python -m pixloc_ros {command}",
            description=description,
            allow_abbrev=False,
        )

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def,override]
        """As argparse does; `--eval_dir` is `--eval-dir`, as the original project spells it."""
        given = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._hyphenated(a) for a in given], namespace)

    def _hyphenated(self, argument: str) -> str:
        option, equals, value = argument.partition("=")
        hyphens = option.replace("_", "-")
        known = option.startswith("--") and hyphens in self._option_string_actions
        return hyphens + equals + value if known else argument

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


def require_outputs(outputs: Sequence[str | None], inputs: Sequence[str | None]) -> None:
    """Refuse outputs that cannot be written or would overwrite an input or each other.

    Called before the work, so that none is lost. Raises InputError.
    """
    taken = {Path(path).resolve() for path in inputs if path}
    for output in (path for path in outputs if path is not None):
        path = Path(output)
        if not output or path.is_dir():
            raise InputError(f"{output or 'an empty name'}: a folder, not a file to write")
        if not path.parent.is_dir():
            raise InputError(f"{path.parent}: no such folder to write {path.name} to")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise InputError(f"{output}: cannot be written")
        if path.resolve() in taken:
            raise InputError(f"{output}: is also an input or another output; it would be lost")
        taken.add(path.resolve())


def network_of(arguments: argparse.Namespace) -> FeatureNetwork:
    return open_network(arguments.weights).to(select_device(arguments.device))


def parse_camera(given: str) -> Camera:
    """The camera of `--camera`: 'MODEL width height params...', or a calibration file.

    Raises InputError.
    """
    try:
        return read_camera(given)
    except CameraError as error:
        raise InputError(f"--camera {error}") from None
