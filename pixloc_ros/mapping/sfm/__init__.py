"""Structure from motion by COLMAP: from images, or from images whose poses are known.

`prepare(SfmWorkspace(...), facts).match(...)` gives what a model is made of, by `map_images` or
`triangulate`; each step finds what an interrupted run has done.
"""

from pixloc_ros.mapping.sfm.features import LocalFeatures, Prepared, apart_by_poses, prepare
from pixloc_ros.mapping.sfm.images import PICTURES, files_below, find_images, unfit
from pixloc_ros.mapping.sfm.mapper import Matched, Registration, adjust
from pixloc_ros.mapping.sfm.workspace import SfmWorkspace

__all__ = [
    "PICTURES",
    "LocalFeatures",
    "Matched",
    "Prepared",
    "Registration",
    "SfmWorkspace",
    "adjust",
    "apart_by_poses",
    "files_below",
    "find_images",
    "prepare",
    "unfit",
]
