"""One query, one answer: the localizer, its gates and its results."""

from pixloc_ros.localization.gating import GateOptions
from pixloc_ros.localization.localizer import Localizer, LocalizerOptions
from pixloc_ros.localization.result import InlierStatistics, LocalizationResult, Prior, Status
from pixloc_ros.localization.tracker import Fix, Observed, State, Tracker, TrackerOptions

__all__ = [
    "Fix",
    "GateOptions",
    "InlierStatistics",
    "LocalizationResult",
    "Localizer",
    "LocalizerOptions",
    "Observed",
    "Prior",
    "State",
    "Status",
    "Tracker",
    "TrackerOptions",
]
