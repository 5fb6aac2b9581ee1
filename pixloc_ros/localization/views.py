"""One camera's image of a moment, and what the network sees in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.features import Extractor, ImageError, ImagePyramid, check_image, grey_values
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization.result import Refusal, Status

MOST_VIEWS = 8
"""Cameras whose images of a moment are aligned together."""


def is_pose(pose: Pose) -> bool:
    """Whether it is one pose, and finite."""
    return not pose.shape and bool(pose.matrix().isfinite().all())


@dataclass(frozen=True)
class View:
    """One camera's image of a moment.

    image: (H, W) or (H, W, 3) RGB uint8. camera: its intrinsics, batch shape (). cam_from_rig:
    where it is on the rig, whose frame is that of the first view's camera.
    """

    image: np.ndarray
    camera: Camera
    cam_from_rig: Pose = field(default_factory=lambda: Pose.identity(dtype=torch.float64))

    def check(self) -> None:
        """Raise Refusal where it cannot be localized."""
        camera = self.camera
        try:
            image = check_image(self.image)
        except ImageError as error:
            raise Refusal(Status.BAD_INPUT, str(error)) from None
        if camera.shape or not bool((camera.focal > 0).all() & camera.centre.isfinite().all()):
            raise Refusal(Status.BAD_INPUT, "the camera is a batch, or not one at all")
        if not is_pose(self.cam_from_rig):
            raise Refusal(Status.BAD_INPUT, "the pose on the rig is a batch, or not finite")
        size = (image.shape[1], image.shape[0])
        if tuple(camera.size.tolist()) != size:
            wanted = "x".join(f"{v:g}" for v in camera.size.tolist())
            raise Refusal(
                Status.BAD_INPUT, f"image of {size[0]}x{size[1]} pixels, its camera has {wanted}"
            )


@dataclass(frozen=True)
class Query:
    """A view and what the network made of it; camera and pose in float64."""

    image: np.ndarray
    pyramid: ImagePyramid
    camera: Camera
    cam_from_rig: Pose

    @cached_property
    def grey(self) -> Tensor:
        """What patches are looked for in: see `features.grey_values`."""
        return torch.from_numpy(grey_values(self.image))

    @classmethod
    def of(cls, view: View, extract: Extractor) -> Query:
        """Run the network on a view."""
        camera = view.camera.to("cpu", torch.float64)
        pose = view.cam_from_rig.to("cpu", torch.float64)
        return cls(view.image, extract(view.image), camera, pose)
