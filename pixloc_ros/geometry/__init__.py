"""Poses, cameras, sampling and robust kernels: tensors in, tensors out."""

from pixloc_ros.geometry.camera import QUARTER_TURN, Camera, CameraError
from pixloc_ros.geometry.lens import Lens
from pixloc_ros.geometry.pose import Pose, average_pose
from pixloc_ros.geometry.robust import CAUCHY, SQUARED, RobustKernel, huber
from pixloc_ros.geometry.sampling import FeatureTable

__all__ = [
    "CAUCHY",
    "QUARTER_TURN",
    "SQUARED",
    "Camera",
    "CameraError",
    "FeatureTable",
    "Lens",
    "Pose",
    "RobustKernel",
    "average_pose",
    "huber",
]
