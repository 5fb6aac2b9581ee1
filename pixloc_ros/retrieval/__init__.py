"""Which references may show what the query shows."""

from pixloc_ros.retrieval.covisibility import Covisibility
from pixloc_ros.retrieval.global_features import (
    RetrievalError,
    rank_by_global_features,
    read_global_features,
)
from pixloc_ros.retrieval.index import DescriptorIndex, FileIndex, Index, open_index
from pixloc_ros.retrieval.visibility import VisibilityIndex

__all__ = [
    "Covisibility",
    "DescriptorIndex",
    "FileIndex",
    "Index",
    "RetrievalError",
    "VisibilityIndex",
    "open_index",
    "rank_by_global_features",
    "read_global_features",
]
