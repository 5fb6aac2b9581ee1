"""Data sets and the text formats of the field."""

from pixloc_ros.datasets.hloc_lists import read_pairs, read_poses, read_queries, write_poses
from pixloc_ros.datasets.text import ListError, write_text

__all__ = ["ListError", "read_pairs", "read_poses", "read_queries", "write_poses", "write_text"]
