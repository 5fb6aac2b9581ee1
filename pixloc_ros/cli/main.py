"""Finds the command, runs it, and turns a user's mistake into one line."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType

from pixloc_ros import __version__
from pixloc_ros.errors import InputError
from pixloc_ros.interrupts import interrupt, never_ignored

COMMANDS = {
    "localization_node": "the ROS 2 node",
    "build_map": "COLMAP model + images -> one .pixmap.h5 file",
    "edit_map": "maps out of maps: merged, without some references, with fewer points",
    "validate_map": "check a map file whole and say what is in it",
    "map_health": "where a map has aged, from what drives found of it",
    "localize": "a list of queries against a map -> poses and a report",
    "evaluate": "poses against ground truth",
    "benchmark": "a public data set, from its files to its table",
    "download": "data sets, models and checkpoints of the public benchmarks",
    "calibrate": "make the claimed covariances true, on maps of one's own",
    "basin": "how far off a prior may be",
    "demo": "drive a robot through a place that it renders itself, or on a pack of images",
    "preprocess": "scene files and photographs for training",
    "train": "a network, on synthetic scenes or on image pairs",
    "export": "the network as an ONNX file",
    "view": "a map, a recorded run, or a running node in the web browser",
    "plot": "pictures of a recorded run",
    "video": "confidences and reprojections of a sequence as videos",
    "speed": "the time of each stage on this machine",
    "completion": "what a shell needs to complete commands and options",
}

FORMER = {"bench": "speed"}
"""Commands by their former names, which work until version 0.2."""


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {about}" for name, about in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m pixloc_ros COMMAND [options]",
            "",
            *lines,
            "",
            f"Every command has --help, and {DEBUG}: the traceback of an unexpected error.",
        ]
    )


DEBUG = "--debug"

INTERRUPTED = {"localization_node": 0, "view": 0}
"""Exit codes after Ctrl-C, where that is how a command ends; 130 for the others."""


def _import(name: str) -> ModuleType:
    """The module of a command: imported only when it runs, the node needs ROS, others do not.

    Libraries that are being imported swallow a KeyboardInterrupt, or take the signal for a
    crash; nothing is under way yet that could be left half done.
    """
    wanted = f"pixloc_ros.cli.{name}"
    if threading.current_thread() is not threading.main_thread():
        return import_module(wanted)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(INTERRUPTED.get(name, 130)))
    try:
        return import_module(wanted)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, interrupt)


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next image, up to a gigabyte.

    Else it gives every large block back to the kernel, and a network spends up to a third of its
    time in the page faults that get them again. Other C libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 32 * 2**20)
    mallopt(trim_threshold, 2**30)


def guard(name: str, arguments: Sequence[str], debug: bool = False) -> int:
    """Run a command; its exit code, with a one-line message for what went wrong.

    debug: let the traceback of an unexpected error through.
    """
    _keep_freed_memory()
    try:
        with never_ignored():
            return _import(name).run(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        code = INTERRUPTED.get(name, 130)
        if code:
            print("interrupted", file=sys.stderr)
        return code
    except MemoryError:
        print("error: out of memory", file=sys.stderr)
        return 1
    # what nobody foresaw: a user is helped by a line, a developer by what led to it
    except Exception as error:
        if debug:
            raise
        print(
            f"error: {type(error).__name__}: {' '.join(str(error).split())[:300]} "
            f"(unexpected; `{DEBUG}` shows where)",
            file=sys.stderr,
        )
        return 1


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] == DEBUG:
        given = [*given[1:2], DEBUG, *given[2:]]
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        return 0 if given else 2
    if given[0] == "--version":
        print(__version__)
        return 0
    if given[0] in FORMER:
        print(f"note: {given[0]} is now called {FORMER[given[0]]}", file=sys.stderr)
        given[0] = FORMER[given[0]]
    if given[0] not in COMMANDS:
        print(f"error: unknown command {given[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    # what follows `--ros-args` is ROS'
    ours = given[: given.index("--ros-args")] if "--ros-args" in given else given
    debug = DEBUG in ours
    if debug:
        given.remove(DEBUG)
    return guard(given[0], given[1:], debug)


def _script(command: str) -> Callable[[], int]:
    return lambda: main([command, *sys.argv[1:]])


# what `ros2 run pixloc_ros COMMAND` calls
localization_node = _script("localization_node")
build_map = _script("build_map")
edit_map = _script("edit_map")
validate_map = _script("validate_map")
map_health = _script("map_health")
localize = _script("localize")
evaluate = _script("evaluate")
benchmark = _script("benchmark")
download = _script("download")
calibrate = _script("calibrate")
basin = _script("basin")
demo = _script("demo")
preprocess = _script("preprocess")
train = _script("train")
speed = _script("speed")
export = _script("export")
view = _script("view")
plot = _script("plot")
video = _script("video")
completion = _script("completion")
