"""The former place of `sensors.camera_info`."""

from pixloc_ros.sensors.camera_info import CameraInfo, camera_of

__all__ = ["CameraInfo", "camera_of"]
