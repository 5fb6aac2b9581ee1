"""`localization_node`: the ROS 2 node; arguments are those of ROS."""

from __future__ import annotations

from collections.abc import Sequence

from pixloc_ros.errors import InputError

# at once, not when it runs: Ctrl-C is safe while a command's module is imported (cli.main)
try:
    from pixloc_ros.ros import localization_node
except ImportError as error:
    MISSING = str(error)
else:
    MISSING = ""

HELP = """\
usage: python -m pixloc_ros localization_node --ros-args -p map:=FILE.pixmap.h5 [...]

The ROS 2 node. It takes ROS arguments: -p name:=value, -r from:=to, --params-file FILE.
config/localize.yaml lists every parameter; launch/localize.launch.py starts it with them.
"""


def run(arguments: Sequence[str]) -> int:
    if "-h" in arguments or "--help" in arguments:
        print(HELP, end="")
        return 0
    if MISSING:
        raise InputError(f"ROS 2 is not available here: {MISSING}")
    return localization_node.run(arguments)
