"""Packages that a ROS distribution may have."""

from __future__ import annotations

import importlib
from types import ModuleType


def package(name: str) -> ModuleType | None:
    """A package of the distribution, or None where there is none."""
    try:
        return importlib.import_module(name)
    # a package for another Python or numpy can raise anything
    except Exception:
        return None
