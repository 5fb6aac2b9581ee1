"""Start poses around a reference."""

from __future__ import annotations

import math

import torch

from pixloc_ros.geometry import Camera, Pose

MAX_STEPS = 12
"""Most steps of the grid to either side."""


def turned_starts(
    starts: Pose, camera: Camera, pan_deg: float, tilt_deg: float, step_cells: float
) -> Pose:
    """Each start (K,) turned about its own centre over a grid of pan and tilt: (K, G).

    camera: of the level that will judge them; the grid is as fine as `step_cells` of its
    cells, since that is how far alignment at that level can pull. Translation needs no grid:
    it moves the image far less than a turn of the camera does.
    """
    step = step_cells / float(camera.focal.mean())

    def angles(limit_deg: float) -> torch.Tensor:
        # a long lens would need more starts than can be tried: look less far around then
        count = min(math.floor(math.radians(limit_deg) / step), MAX_STEPS)
        return torch.arange(-count, count + 1, dtype=torch.float64) * step

    tilt, pan = torch.meshgrid(angles(tilt_deg), angles(pan_deg), indexing="ij")
    rotvec = torch.stack([tilt.flatten(), pan.flatten(), torch.zeros(pan.numel())], -1)
    turn = Pose.from_rotvec(rotvec, torch.zeros_like(rotvec))
    return turn[None].compose(starts[:, None])
