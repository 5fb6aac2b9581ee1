"""Which references may show what the query shows."""

from pixloc_ros.retrieval.covisibility import Covisibility
from pixloc_ros.retrieval.global_features import RetrievalError, read_global_features
from pixloc_ros.retrieval.index import DescriptorIndex

__all__ = [
    "Covisibility",
    "DescriptorIndex",
    "RetrievalError",
    "read_global_features",
]
