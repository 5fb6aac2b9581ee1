"""Kinds of places, each a module with what stands in it and where cameras look at it from.

`place(layout, random)` adds boxes and returns the size (3,) of the place in metres; `gaze(size,
random)` is a first camera's eye and target; `keep(at, size, reach)` moves another camera's place
to where one can stand.
"""

from types import ModuleType

from pixloc_ros.datasets.scene_kinds import room, street, wall, yard

KINDS: dict[str, ModuleType] = {"room": room, "street": street, "yard": yard, "wall": wall}

__all__ = ["KINDS"]
