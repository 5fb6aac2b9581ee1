"""Results against ground truth."""

from pixloc_ros.evaluation.metrics import THRESHOLDS, PoseErrors
from pixloc_ros.evaluation.report import Exhibit, as_html, as_json, as_table, comparison

__all__ = [
    "THRESHOLDS",
    "Exhibit",
    "PoseErrors",
    "as_html",
    "as_json",
    "as_table",
    "comparison",
]
