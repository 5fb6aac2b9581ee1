"""The map file: schema, reader, builder."""

from pixloc_ros.mapping.builder import BuildSummary, build_map
from pixloc_ros.mapping.feature_store import FeatureStore
from pixloc_ros.mapping.map_file import PixMap, ReferenceFeatures, ResidualStatistics
from pixloc_ros.mapping.schema import SUFFIX, MapError, MapHeader
from pixloc_ros.mapping.sparse_model import ModelError, SparseModel, read_colmap

__all__ = [
    "SUFFIX",
    "BuildSummary",
    "FeatureStore",
    "MapError",
    "MapHeader",
    "ModelError",
    "PixMap",
    "ReferenceFeatures",
    "ResidualStatistics",
    "SparseModel",
    "build_map",
    "read_colmap",
]
