"""Errors of a sequence of poses as a trajectory, by evo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Pose


@dataclass(frozen=True)
class TrajectoryErrors:
    """Root mean squares and maxima over the poses that were found.

    ate: absolute, of the camera centre, in the map's frame without alignment: that is what a
    localizer claims. rpe: of the motion between each pose and the next. Metres and degrees.
    """

    poses: int
    ate_m: float
    ate_max_m: float
    rpe_m: float
    rpe_max_m: float
    rpe_deg: float
    rpe_max_deg: float

    def as_text(self) -> str:
        return (
            f"trajectory of {self.poses} poses: ATE {self.ate_m:.4f} m rms, "
            f"{self.ate_max_m:.4f} m at most; RPE {self.rpe_m:.4f} m "
            f"{self.rpe_deg:.3f} deg rms, {self.rpe_max_m:.4f} m {self.rpe_max_deg:.3f} deg "
            "at most"
        )


def trajectory_errors(
    truth: Mapping[str, Pose], results: Mapping[str, Pose], stamps: Mapping[str, float]
) -> TrajectoryErrors:
    """Of cam_from_map poses by name. stamps: seconds of each name.

    Source: Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems" (IROS 2012),
    section IV, as evo computes it. Raises InputError without evo, or with less than two poses.
    """
    try:
        from evo.core import metrics
        from evo.core.trajectory import PoseTrajectory3D
    except ImportError as error:
        raise InputError(
            f"ATE and RPE need evo: pip install 'pixloc_ros[evo]' ({error})"
        ) from None
    names = sorted((name for name in truth if name in results), key=lambda name: stamps[name])
    if len(names) < 2:
        raise InputError(f"{len(names)} poses found, a trajectory has two at least")

    def trajectory(poses: Mapping[str, Pose]) -> Any:
        return PoseTrajectory3D(
            poses_se3=[poses[name].inverse().matrix().numpy() for name in names],
            timestamps=np.array([stamps[name] for name in names]),
        )

    pair = trajectory(truth), trajectory(results)
    part = metrics.PoseRelation
    absolute = metrics.APE(part.translation_part)
    moved = metrics.RPE(part.translation_part, 1.0, metrics.Unit.frames)
    turned = metrics.RPE(part.rotation_angle_deg, 1.0, metrics.Unit.frames)
    found = []
    for metric in (absolute, moved, turned):
        metric.process_data(pair)
        all_of = metric.get_all_statistics()
        found += [float(all_of["rmse"]), float(all_of["max"])]
    return TrajectoryErrors(len(names), *found)
