"""What cameras and drivers say: images in every encoding, calibration in every dialect.

One reader for every door: the node, recordings, the player, videos and files.
"""

from pixloc_ros.sensors.camera_info import CameraInfo, camera_of, note_on
from pixloc_ros.sensors.errors import ImageError
from pixloc_ros.sensors.frames import frame_name
from pixloc_ros.sensors.images import (
    depth_of,
    image_of,
    image_size,
    read_depth,
    read_image,
    require_size,
)

__all__ = [
    "CameraInfo",
    "ImageError",
    "camera_of",
    "depth_of",
    "frame_name",
    "image_of",
    "image_size",
    "note_on",
    "read_depth",
    "read_image",
    "require_size",
]
