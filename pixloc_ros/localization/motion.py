"""Where the robot is after it moved, and how sure that still is."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from pixloc_ros.errors import require_range
from pixloc_ros.geometry import Pose
from pixloc_ros.geometry.so3 import skew, so3_log


@dataclass
class MotionOptions:
    """How odometry errs: standard deviations.

    drift: share of the way. drift_deg: degrees a metre. turn_drift: share of the turn.
    floor_m, floor_deg: of any comparison of two poses. max_speed, max_turn_deg: metres and
    degrees a second; half of them replaces odometry where there is none.
    """

    drift: float = 0.05
    drift_deg: float = 1.0
    turn_drift: float = 0.05
    floor_m: float = 0.05
    floor_deg: float = 1.0
    max_speed: float = 2.0
    max_turn_deg: float = 90.0

    def __post_init__(self) -> None:
        require_range(self, 0, 1e6, *(f.name for f in fields(self)))


@dataclass(frozen=True)
class PoseEstimate:
    """A base pose that something speaks for.

    stamp: seconds. map_from_base: (), float64. covariance: (6, 6), ROS order, map axes. frame:
    which map's, where there are several.
    odom_from_base: odometry at the stamp, or None. metres, degrees: how far
    odometry has carried it since.
    """

    stamp: float
    map_from_base: Pose
    covariance: Tensor
    odom_from_base: Pose | None
    metres: float = 0.0
    degrees: float = 0.0
    frame: str = ""

    @property
    def map_from_odom(self) -> Pose | None:
        if self.odom_from_base is None:
            return None
        return self.map_from_base @ self.odom_from_base.inverse()

    @property
    def sigma_m(self) -> float:
        """Standard deviation of the position along its worst axis, metres."""
        return float(torch.linalg.eigvalsh(self.covariance[:3, :3])[-1].clamp(min=0).sqrt())

    @property
    def sigma_deg(self) -> float:
        """Standard deviation of the orientation about its worst axis, degrees."""
        largest = torch.linalg.eigvalsh(self.covariance[3:, 3:])[-1].clamp(min=0).sqrt()
        return math.degrees(float(largest))


def planar(belief: PoseEstimate) -> PoseEstimate:
    """The belief of a robot that drives on the map's plane z = 0: x, y and yaw, and of its
    covariance what is of these; the rest is zero, as of AMCL's.
    """
    rotation = belief.map_from_base.rotation
    yaw = torch.atan2(rotation[1, 0], rotation[0, 0])
    turn = torch.stack([torch.zeros_like(yaw), torch.zeros_like(yaw), yaw])
    place = belief.map_from_base.translation * torch.tensor([1.0, 1.0, 0.0]).to(rotation)
    kept = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 1.0]).to(belief.covariance)
    return replace(
        belief,
        map_from_base=Pose.from_rotvec(turn, place),
        covariance=belief.covariance * kept[:, None] * kept,
    )


def propagate(
    belief: PoseEstimate, stamp: float, odom_from_base: Pose | None, options: MotionOptions
) -> PoseEstimate:
    """The belief at another stamp: moved as odometry says, less sure by what odometry errs.

    Odometry errs the same way for long, so a standard deviation grows with the way, in circles
    too. Without odometry the robot is expected where it was, and may have moved as fast as it
    can.
    """
    elapsed = abs(stamp - belief.stamp)
    moved = Pose.identity(dtype=torch.float64)
    metres, degrees = belief.metres, belief.degrees
    if belief.odom_from_base is not None and odom_from_base is not None:
        moved = belief.odom_from_base.inverse() @ odom_from_base
        metres += float(moved.translation.norm())
        degrees += math.degrees(float(so3_log(moved.rotation).norm()))
        growth = _drift(metres, degrees, options) - _drift(belief.metres, belief.degrees, options)
    else:
        growth = _diagonal(0.5 * options.max_speed * elapsed, 0.5 * options.max_turn_deg * elapsed)
    map_from_base = belief.map_from_base @ moved
    # an error of the old orientation swings the way that was driven since
    way = map_from_base.translation - belief.map_from_base.translation
    swing = torch.eye(6, dtype=torch.float64)
    swing[:3, 3:] = -skew(way)
    grown = swing @ belief.covariance @ swing.T + growth
    return PoseEstimate(stamp, map_from_base, grown, odom_from_base, metres, degrees, belief.frame)


def intersect(expected: PoseEstimate, found: PoseEstimate) -> PoseEstimate:
    """Both beliefs about one moment in one, never surer than they allow for.

    Covariance intersection: an answer and the answers before it err alike (the map's errors are
    the same), so their information must not be added. Julier and Uhlmann, "A non-divergent
    estimation algorithm in the presence of unknown correlations" (1997).
    """
    prior, answer = (torch.linalg.inv(b.covariance) for b in (expected, found))
    shares = torch.linspace(0, 1, 21, dtype=torch.float64)[:, None, None]
    information = (1 - shares) * prior + shares * answer
    best = int(torch.linalg.slogdet(information).logabsdet.argmax())
    covariance = torch.linalg.inv(information[best])
    moved = covariance @ (shares[best] * answer) @ _error(expected, found)
    turn = Pose.from_rotvec(moved[3:], torch.zeros(3, dtype=torch.float64)).rotation
    pose = expected.map_from_base
    return replace(
        found,
        map_from_base=Pose(turn @ pose.rotation, pose.translation + moved[:3]),
        covariance=0.5 * (covariance + covariance.T),
    )


def _error(expected: PoseEstimate, found: PoseEstimate) -> Tensor:
    """Translation and rotation (6,) that lead from one to the other, in the map's axes."""
    turn = so3_log(found.map_from_base.rotation @ expected.map_from_base.rotation.T)
    way = found.map_from_base.translation - expected.map_from_base.translation
    return torch.cat([way, turn])


def disagreement(
    expected: PoseEstimate, found: PoseEstimate, options: MotionOptions
) -> tuple[float, float, float]:
    """Mahalanobis distance, metres and degrees between two beliefs about one moment."""
    error = _error(expected, found)
    floor = _diagonal(options.floor_m, options.floor_deg)
    spread = expected.covariance + found.covariance + floor
    distance = float((error @ torch.linalg.solve(spread, error)).clamp(min=0).sqrt())
    return distance, float(error[:3].norm()), math.degrees(float(error[3:].norm()))


def _drift(metres: float, degrees: float, options: MotionOptions) -> Tensor:
    return _diagonal(
        options.drift * metres, options.drift_deg * metres + options.turn_drift * degrees
    )


def _diagonal(sigma_m: float, sigma_deg: float) -> Tensor:
    sigma = torch.tensor([sigma_m] * 3 + [math.radians(sigma_deg)] * 3, dtype=torch.float64)
    return torch.diag(sigma**2)
