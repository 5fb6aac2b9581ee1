"""Packages that a ROS distribution may have."""

from __future__ import annotations

import importlib
import os
from importlib import metadata
from types import ModuleType


def package(name: str) -> ModuleType | None:
    """A package of the distribution, or None where there is none."""
    try:
        return importlib.import_module(name)
    # a package for another Python or numpy can raise anything
    except Exception:
        return None


def profile_variable() -> str:
    """What names a profile of Fast DDS: Jazzy and older know no other name than the first, newer
    ones warn of it.
    """
    old, new = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"
    distribution = os.environ.get("ROS_DISTRO")
    if distribution:
        return old if distribution in ("humble", "iron", "jazzy") else new
    try:  # wheels say it by their version
        major = int(metadata.version("ros-rmw-fastrtps-cpp").split(".")[0])
    except (metadata.PackageNotFoundError, ValueError):
        return new
    return old if major < 9 else new
