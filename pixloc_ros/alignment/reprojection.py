"""The pose from where an image shows points: reprojection errors, minimized robustly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from pixloc_ros.alignment.rig import perturbation
from pixloc_ros.geometry import Camera, Pose

ITERATIONS = 10
SCALE_PX = 1.0
"""Residual, in pixels, at which a point counts half (Cauchy)."""
STILL_PX = 1e-3
"""Root mean square of the motion of the points after which the pose has arrived."""


@dataclass(frozen=True)
class SeenPoints:
    """What one camera of a rig shows: points (n, 3) at pixels (n, 2), all float64.

    share: (n,) weight of each; what is known of the same point several times shares one, as
    the error of its position is common to all of them.
    """

    points: Tensor
    pixels: Tensor
    share: Tensor
    camera: Camera
    cam_from_rig: Pose


@dataclass(frozen=True)
class ReprojectionFit:
    """The pose at the end, and what it rests on, the points of all cameras one after the other.

    hessian: (6, 6), of the left perturbation (translation, rotation) of the rig. residuals: (n,)
    pixels, infinite for a point that does not project. weights: (n,) of the robust kernel
    times the share.
    """

    rig_from_map: Pose
    hessian: Tensor
    residuals: Tensor
    weights: Tensor

    def covariance(self) -> Tensor:
        """(6, 6) of the left perturbation: s^2 (J^T W J)^-1, infinite where that is singular.

        Source: Triggs et al., "Bundle adjustment - a modern synthesis" (2000), section 9.
        """
        seen = self.weights > 0
        degrees = 2 * self.weights.sum() - 6
        squared = (self.weights[seen] * self.residuals[seen] ** 2).sum()
        scale = self.hessian.diagonal().clamp(min=1e-30).rsqrt()
        scaled = self.hessian * scale[:, None] * scale
        factor, info = torch.linalg.cholesky_ex(scaled)
        if int(info) or not float(degrees) > 0:
            return torch.full_like(self.hessian, torch.inf)
        inverse = torch.cholesky_inverse(factor) * scale[:, None] * scale
        return inverse * squared / degrees


def _project(
    view: SeenPoints, camera: Camera, cam_from_map: Pose
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels (n, 2), how far they are from where the points are seen (n, 2), the derivative by
    the left perturbation (translation, rotation) of the camera (n, 2, 6), and whether points
    project (n,); the errors and derivatives of those that do not are zero.
    """
    in_camera = cam_from_map.transform(view.points)
    pixels, to_pixels, valid = camera.project_with_jacobian(in_camera)
    nothing = torch.zeros(()).double()
    away = torch.where(valid[:, None], pixels - view.pixels, nothing)
    # [J_t | J_r] by rows: d(pixel)/dX and, for a turn, X x d(pixel)/dX
    turned = torch.linalg.cross(in_camera[:, None].expand_as(to_pixels), to_pixels)
    jacobian = torch.cat([to_pixels, turned], -1)
    return pixels, away, torch.where(valid[:, None, None], jacobian, nothing), valid


def fit_reprojections(views: Sequence[SeenPoints], rig_from_map: Pose) -> ReprojectionFit:
    """Gauss-Newton with the Cauchy kernel from a pose that is near, batch shape ().

    Source: Hartley, Zisserman, "Multiple view geometry" (2004), section 12.3 and appendix 6.
    """
    pose = rig_from_map.to(torch.float64)
    mounts = [perturbation(view.cam_from_rig) for view in views]
    eye = torch.eye(6, dtype=torch.float64)
    for iteration in range(ITERATIONS + 1):
        hessian, gradient = torch.zeros(6, 6, dtype=torch.float64), torch.zeros(6).double()
        residuals, weights = [], []
        for view, mount in zip(views, mounts, strict=True):
            _, away, jacobian, valid = _project(view, view.camera, view.cam_from_rig @ pose)
            squared = away.square().sum(-1)
            weight = view.share * valid / (1 + squared / SCALE_PX**2)
            jacobian = (jacobian @ mount).flatten(0, 1)
            both = (weight[:, None] * torch.ones(2).double()).flatten()
            hessian += jacobian.T @ (both[:, None] * jacobian)
            gradient += jacobian.T @ (both * away.flatten())
            residuals.append(torch.where(valid, squared.sqrt(), torch.inf))
            weights.append(weight)
        fit = ReprojectionFit(pose, hessian, torch.cat(residuals), torch.cat(weights))
        if iteration == ITERATIONS:
            break
        floor = 1e-9 * hessian.diagonal().mean().clamp(min=1e-12)
        step = -torch.linalg.solve(hessian + floor * eye, gradient)
        motion = (step @ hessian @ step) / fit.weights.sum().clamp(min=1e-9)
        if not bool(torch.isfinite(step).all()) or float(motion) < STILL_PX**2:
            break
        pose = pose.perturb(step)
    return fit


@dataclass(frozen=True)
class CameraCheck:
    """What points say of the camera itself, the pose being free.

    focal: by what the focal length should be multiplied, and log_sigma, the standard deviation of
    its logarithm. shift: (2,) of the principal point, in widths of the image, and shift_sigma.
    cam_from_map: the pose that goes with them. What was not free is as it was, and its standard
    deviation zero.
    """

    focal: float
    log_sigma: float
    shift: tuple[float, float]
    shift_sigma: tuple[float, float]
    cam_from_map: Pose


def check_camera(
    view: SeenPoints,
    cam_from_map: Pose,
    free: Literal["focal", "centre"],
    focal: float = 1.0,
) -> CameraCheck | None:
    """Fit the pose, and the focal length or the principal point, to what one camera shows.

    free: which of the two it is; each alone is better known than both. focal: by what the focal
    length is multiplied at the start, as the pose there fits it.
    None where they do not determine that. The robust scale follows the residuals, which are of
    several pixels for matches.
    Source: Hartley, Zisserman, "Multiple view geometry" (2004), section 7.2.
    """
    pose = cam_from_map.to(torch.float64)
    log_focal = torch.tensor(focal, dtype=torch.float64).log()
    shift = torch.zeros(2, dtype=torch.float64)
    width, scale = view.camera.size[0], 0.0
    chosen = torch.tensor([*range(6), *((6,) if free == "focal" else (7, 8))])
    for iteration in range(ITERATIONS + 1):
        camera = replace(
            view.camera,
            focal=view.camera.focal * log_focal.exp(),
            centre=view.camera.centre + shift * width,
        )
        pixels, away, of_pose, valid = _project(view, camera, pose)
        if int(valid.sum()) < 10:
            return None
        squared = away.square().sum(-1)
        if iteration < ITERATIONS // 2:
            scale = max(SCALE_PX, 1.5 * float(squared[valid].sqrt().median()))
        weight = view.share * valid / (1 + squared / scale**2)
        # a longer focal length moves a pixel away from the centre
        outwards = (pixels - camera.centre)[..., None]
        centre = width * torch.eye(2).double().expand(len(pixels), 2, 2)
        of_camera = torch.cat([outwards, centre], -1)
        of_camera = torch.where(valid[:, None, None], of_camera, torch.zeros(()).double())
        jacobian = torch.cat([of_pose, of_camera], -1)
        flat = jacobian.flatten(0, 1)[:, chosen]
        both = (weight[:, None] * torch.ones(2).double()).flatten()
        hessian = flat.T @ (both[:, None] * flat)
        gradient = flat.T @ (both * away.flatten())
        norm = hessian.diagonal().clamp(min=1e-30).rsqrt()
        factor, info = torch.linalg.cholesky_ex(hessian * norm[:, None] * norm)
        if int(info):
            return None
        inverse = torch.cholesky_inverse(factor) * norm[:, None] * norm
        if iteration == ITERATIONS:
            break
        step = torch.zeros(9, dtype=torch.float64)
        step[chosen] = -(inverse @ gradient)
        motion = step[chosen] @ hessian @ step[chosen] / weight.sum().clamp(min=1e-9)
        if iteration > ITERATIONS // 2 and float(motion) < STILL_PX**2:
            break
        pose = pose.perturb(step[:6])
        log_focal = log_focal + step[6].clamp(-0.5, 0.5)
        shift = shift + step[7:].clamp(-0.5, 0.5)
    degrees = 2 * weight.sum() - len(hessian)
    if not float(degrees) > 0:
        return None
    variance = (weight * squared).sum() / degrees
    sigma = torch.zeros(9, dtype=torch.float64)
    sigma[chosen] = (inverse.diagonal().clamp(min=0) * variance).sqrt()
    if not bool(torch.isfinite(sigma).all() & torch.isfinite(shift).all()):
        return None
    return CameraCheck(
        float(log_focal.exp()),
        float(sigma[6]),
        (float(shift[0]), float(shift[1])),
        (float(sigma[7]), float(sigma[8])),
        pose,
    )
