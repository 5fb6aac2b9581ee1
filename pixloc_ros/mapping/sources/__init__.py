"""What a map is made of: one file for each kind of input, all of them to a `Source`."""

from pixloc_ros.mapping.sources.bag import FromBag
from pixloc_ros.mapping.sources.colmap import FromColmap
from pixloc_ros.mapping.sources.extend import FromLocalized
from pixloc_ros.mapping.sources.frame import MapFrame
from pixloc_ros.mapping.sources.hloc import HlocFeatures
from pixloc_ros.mapping.sources.images import FromImages
from pixloc_ros.mapping.sources.poses import FromPoses
from pixloc_ros.mapping.sources.refresh import FromKept
from pixloc_ros.mapping.sources.source import Source, Stages, Work
from pixloc_ros.mapping.sources.transforms import FromTransforms

__all__ = [
    "FromBag",
    "FromColmap",
    "FromImages",
    "FromKept",
    "FromLocalized",
    "FromPoses",
    "FromTransforms",
    "HlocFeatures",
    "MapFrame",
    "Source",
    "Stages",
    "Work",
]
