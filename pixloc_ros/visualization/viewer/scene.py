"""What the viewer draws: points, cameras and lines about the middle of a map."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.mapping import PixMap
from pixloc_ros.visualization.style import heat

BLUE, VERMILION, ORANGE, GREEN = (0, 114, 178), (213, 94, 0), (230, 159, 0), (0, 158, 115)
GRAY = (140, 140, 140)


class MapScene:
    """A map's points, coloured by height, in a viser scene, and what else is drawn among them.

    server: viser's. budget: most points that are sent. origin: (3,) of the scene in the map.
    centres: (n, 3) of the references' cameras. spread, frustum: in metres, of the place and of a
    reference's camera as it is drawn.
    """

    def __init__(self, server: Any, pixmap: PixMap, budget: int) -> None:
        self._scene = server.scene
        poses = pixmap.poses
        self.centres = pixmap.centres()
        # cameras stand upright, whatever the axes of the map
        up = -poses.rotation[:, 1].mean(0)
        up = up / up.norm().clamp(min=1e-9)
        self._scene.set_up_direction(tuple(up.tolist()))
        points = pixmap.some_points(4 * budget)
        if len(points) > budget:
            points = points[np.sort(np.random.default_rng(0).permutation(len(points))[:budget])]
        height = points @ up.numpy()
        low, high = np.percentile(height, [2, 98])
        # single precision about the middle keeps millimetres in geographic coordinates
        self.origin = np.median(self.centres, axis=0)
        self.spread = float(np.percentile(np.abs(points - self.origin).max(1), 80)) or 1.0
        # the brightest colours are lost on white
        colours = heat(0.8 * np.clip((height - low) / max(high - low, 1e-9), 0, 1))
        self.cloud("/map/points", points, colours, self.spread / 350)
        self.frustum = self._frustum_size()
        # a first look from above and behind
        ahead = poses.rotation[:, 2].mean(0)
        back = (up - ahead / ahead.norm().clamp(min=1e-9)).numpy() * 1.2 * self.spread
        server.initial_camera.position = tuple(back)
        server.initial_camera.look_at = (0.0, 0.0, 0.0)

    def cloud(
        self, name: str, points: np.ndarray, colours: np.ndarray | tuple, size: float
    ) -> None:
        """Draw points (n, 3) of the map in place of those of that name."""
        if len(points):
            self._scene.add_point_cloud(
                name,
                (points - self.origin).astype(np.float32),
                colours,
                point_size=size,
                point_shape="circle",
                precision="float32",
            )
        else:
            self.remove(name)

    def camera(
        self,
        name: str,
        camera: Camera,
        cam_from_map: Pose,
        colour: tuple[int, int, int],
        size: float = 1.0,
        image: np.ndarray | None = None,
    ) -> Any:
        """Draw a camera in place of the one of that name. size: of a reference's."""
        width, height = camera.size.tolist()
        pose = cam_from_map.inverse()
        return self._scene.add_camera_frustum(
            name,
            fov=2 * math.atan(height / 2 / float(camera.focal[1])),
            aspect=width / height,
            wxyz=pose.quaternion().numpy(),
            position=pose.translation.numpy() - self.origin,
            scale=size * self.frustum,
            thickness=size * self.frustum / 20,
            color=colour,
            image=image,
        )

    def path(self, name: str, points: np.ndarray, colour: tuple[int, int, int]) -> None:
        """Draw a line through points (n, 3) of the map in place of the one of that name."""
        placed = (points - self.origin).astype(np.float32)
        segments = np.stack([placed[:-1], placed[1:]], 1)
        self._scene.add_line_segments(name, segments, colour, thickness=self.frustum / 10)

    def remove(self, name: str) -> None:
        """Draw nothing of that name any more."""
        self._scene.remove_by_name(name)

    def _frustum_size(self) -> float:
        """Such that neighbours can be told apart, in metres."""
        # each is its own nearest
        distances, _ = KDTree(self.centres).query(self.centres, k=[min(2, len(self.centres))])
        apart = float(np.median(distances))
        return float(np.clip(2 * apart, self.spread / 100, self.spread / 30))
