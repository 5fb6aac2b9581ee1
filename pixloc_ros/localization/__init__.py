"""One query, one answer: the localizer, its gates and its results."""

from pixloc_ros.localization.gating import GateOptions
from pixloc_ros.localization.localizer import Localizer
from pixloc_ros.localization.map_set import MapSet, Submap, map_files
from pixloc_ros.localization.motion import MotionOptions, PoseEstimate, planar
from pixloc_ros.localization.options import LocalizerOptions
from pixloc_ros.localization.pipeline import Decision, Moment, Outcome, Pipeline
from pixloc_ros.localization.result import (
    InlierStatistics,
    LocalizationResult,
    Prior,
    Reprojections,
    Status,
)
from pixloc_ros.localization.run_codec import RecordedFrame, RecordedView, facts_of
from pixloc_ros.localization.run_container import RunError
from pixloc_ros.localization.run_file import RunFile, RunWriter
from pixloc_ros.localization.trace import Trace
from pixloc_ros.localization.tracker import (
    TRANSITIONS,
    Event,
    FrameContext,
    State,
    Tracker,
    TrackerOptions,
)
from pixloc_ros.localization.views import View

__all__ = [
    "TRANSITIONS",
    "Decision",
    "Event",
    "FrameContext",
    "GateOptions",
    "InlierStatistics",
    "LocalizationResult",
    "Localizer",
    "LocalizerOptions",
    "MapSet",
    "Moment",
    "MotionOptions",
    "Outcome",
    "Pipeline",
    "PoseEstimate",
    "Prior",
    "RecordedFrame",
    "RecordedView",
    "Reprojections",
    "RunError",
    "RunFile",
    "RunWriter",
    "State",
    "Status",
    "Submap",
    "Trace",
    "Tracker",
    "TrackerOptions",
    "View",
    "facts_of",
    "map_files",
    "planar",
]
