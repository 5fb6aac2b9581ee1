"""Feature-metric alignment: cost, Levenberg-Marquardt, covariance."""

from pixloc_ros.alignment.aggregate import average_observations
from pixloc_ros.alignment.covariance import condition_number, pose_covariance
from pixloc_ros.alignment.damping import damped_step, learned_damping
from pixloc_ros.alignment.kernels import linearize
from pixloc_ros.alignment.levenberg_marquardt import align, optimize_level
from pixloc_ros.alignment.patch_tracking import PatchTracks, track_patches
from pixloc_ros.alignment.problem import (
    AlignmentProblem,
    LinearSystem,
    LMOptions,
    LMResult,
    QueryMap,
    RigProblem,
)
from pixloc_ros.alignment.reprojection import (
    CameraCheck,
    ReprojectionFit,
    SeenPoints,
    check_camera,
    fit_reprojections,
)
from pixloc_ros.alignment.rig import linearize_rig

__all__ = [
    "AlignmentProblem",
    "CameraCheck",
    "LMOptions",
    "LMResult",
    "LinearSystem",
    "PatchTracks",
    "QueryMap",
    "ReprojectionFit",
    "RigProblem",
    "SeenPoints",
    "align",
    "average_observations",
    "check_camera",
    "condition_number",
    "damped_step",
    "fit_reprojections",
    "learned_damping",
    "linearize",
    "linearize_rig",
    "optimize_level",
    "pose_covariance",
    "track_patches",
]
