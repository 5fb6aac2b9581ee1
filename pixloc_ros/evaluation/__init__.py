"""Results against ground truth."""

from pixloc_ros.evaluation.metrics import THRESHOLDS, PoseErrors
from pixloc_ros.evaluation.report import as_html, as_json, as_table, comparison

__all__ = ["THRESHOLDS", "PoseErrors", "as_html", "as_json", "as_table", "comparison"]
