"""Results against ground truth."""

from pixloc_ros.evaluation.metrics import THRESHOLDS, PoseErrors
from pixloc_ros.evaluation.page import Exhibit, as_html
from pixloc_ros.evaluation.report import as_json, as_table, comparison

__all__ = [
    "THRESHOLDS",
    "Exhibit",
    "PoseErrors",
    "as_html",
    "as_json",
    "as_table",
    "comparison",
]
