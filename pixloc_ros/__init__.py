"""Visual relocalization by feature-metric alignment, for ROS 2.

What this module names is the public interface; see doc/api.md for what may change.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# A robot's processor has other work. Threads of OpenMP, and of torch with it, that wait for each
# other would take all of it from who has something to do. OpenMP reads this once, when torch is
# imported; processes that are started from here inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pixloc_ros.errors import InputError
    from pixloc_ros.features import FeatureNetwork, open_network, read_image
    from pixloc_ros.geometry import Camera, Pose
    from pixloc_ros.localization import (
        FrameContext,
        LocalizationResult,
        Localizer,
        LocalizerOptions,
        MapSet,
        Moment,
        Pipeline,
        PoseEstimate,
        Prior,
        Status,
        Tracker,
        TrackerOptions,
        View,
    )
    from pixloc_ros.mapping import PixMap, build_map, read_colmap

_HOMES = {
    "pixloc_ros.errors": ("InputError",),
    "pixloc_ros.features": ("FeatureNetwork", "open_network", "read_image"),
    "pixloc_ros.geometry": ("Camera", "Pose"),
    "pixloc_ros.localization": (
        "FrameContext",
        "LocalizationResult",
        "Localizer",
        "LocalizerOptions",
        "MapSet",
        "Moment",
        "Pipeline",
        "PoseEstimate",
        "Prior",
        "Status",
        "Tracker",
        "TrackerOptions",
        "View",
    ),
    "pixloc_ros.mapping": ("PixMap", "build_map", "read_colmap"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Camera",
    "FeatureNetwork",
    "FrameContext",
    "InputError",
    "LocalizationResult",
    "Localizer",
    "LocalizerOptions",
    "MapSet",
    "Moment",
    "Pipeline",
    "PixMap",
    "Pose",
    "PoseEstimate",
    "Prior",
    "Status",
    "Tracker",
    "TrackerOptions",
    "View",
    "__version__",
    "build_map",
    "open_network",
    "read_colmap",
    "read_image",
]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and whoever asks a command for its help needs none of it
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
