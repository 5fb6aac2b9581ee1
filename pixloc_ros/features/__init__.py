"""Networks: image in, feature pyramid with confidences and a global descriptor out."""

from pixloc_ros.features.checkpoint import (
    CheckpointError,
    load_network,
    new_network,
    open_network,
    read_training,
    save_network,
)
from pixloc_ros.features.grey import PATCH_SIDE, cut_patches, grey_camera, grey_values
from pixloc_ros.features.image import check_image, shrink
from pixloc_ros.features.inference import Extractor
from pixloc_ros.features.network import FeatureNetwork, NetworkOutput
from pixloc_ros.features.places import PlaceModel, learn_places
from pixloc_ros.features.pyramid import (
    ImagePyramid,
    LevelMaps,
    PyramidLevel,
    default_levels,
    extract_pyramid,
)
from pixloc_ros.features.runtimes import RUNTIMES
from pixloc_ros.sensors import ImageError, read_image

__all__ = [
    "PATCH_SIDE",
    "RUNTIMES",
    "CheckpointError",
    "Extractor",
    "FeatureNetwork",
    "ImageError",
    "ImagePyramid",
    "LevelMaps",
    "NetworkOutput",
    "PlaceModel",
    "PyramidLevel",
    "check_image",
    "cut_patches",
    "default_levels",
    "extract_pyramid",
    "grey_camera",
    "grey_values",
    "learn_places",
    "load_network",
    "new_network",
    "open_network",
    "read_image",
    "read_training",
    "save_network",
    "shrink",
]
