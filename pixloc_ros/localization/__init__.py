"""One query, one answer: the localizer, its gates and its results."""

from pixloc_ros.localization.gating import GateOptions
from pixloc_ros.localization.localizer import Localizer, LocalizerOptions
from pixloc_ros.localization.result import InlierStatistics, LocalizationResult, Prior, Status

__all__ = [
    "GateOptions",
    "InlierStatistics",
    "LocalizationResult",
    "Localizer",
    "LocalizerOptions",
    "Prior",
    "Status",
]
