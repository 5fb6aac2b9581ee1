"""A run in a map: frame after frame, step after step."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch

from pixloc_ros.features import shrink
from pixloc_ros.geometry import Pose
from pixloc_ros.localization import Decision, RecordedFrame, RunError, RunFile
from pixloc_ros.visualization.overlay import draw_frame, residual_colours
from pixloc_ros.visualization.viewer.panels import PICTURE, blank, from_browser
from pixloc_ros.visualization.viewer.scene import GREEN, ORANGE, VERMILION, MapScene

POLL = 0.5
"""Seconds between looks for new frames of a run that is being recorded."""

COLOURS = {Decision.FIX: GREEN, Decision.CANDIDATE: ORANGE, Decision.REFUSED: VERMILION}


class RunPanel:
    """follow: the run is being recorded, look for more. lock: of what browsers change. stop: set
    where the viewer ends. frame: the one that is shown, or None.
    """

    def __init__(
        self,
        server: Any,
        scene: MapScene,
        run: RunFile,
        follow: bool,
        lock: threading.RLock,
        stop: threading.Event,
    ) -> None:
        self._server, self._scene, self._run = server, scene, run
        self._lock, self._stop = lock, stop
        self.frame: RecordedFrame | None = None
        gui, last = server.gui, max(len(run) - 1, 1)
        with gui.add_folder("Run", order=-1):
            self._frames = gui.add_slider("frame", 0, last, 1, 0)
            self._steps = gui.add_slider("step", 0, 1, 1, 0)
            self._play = gui.add_checkbox("play", False)
            self._live = gui.add_checkbox("newest", follow, visible=follow)
            self._note = gui.add_markdown("waiting for the first frame")
            self._picture = gui.add_image(blank())
        self._frames.on_update(from_browser(lambda _: self.show_frame(int(self._frames.value))))
        self._steps.on_update(from_browser(lambda _: self.show_step(int(self._steps.value))))
        if len(run):
            self.show_frame(0)
        self._path_length = 0
        self._answers: list[np.ndarray] = []
        self._draw_path()
        threading.Thread(target=self._go_on_playing, name="pixloc_play", daemon=True).start()
        if follow:
            threading.Thread(target=self._follow, name="pixloc_follow", daemon=True).start()

    def _draw_path(self) -> None:
        """The believed answers one after the other."""
        count = len(self._run)
        while self._path_length < count:
            frame = self._run[self._path_length]
            self._path_length += 1
            if frame.decision is Decision.FIX and frame.cam_from_map is not None:
                self._answers.append(frame.cam_from_map.inverse().translation.numpy())
        if len(self._answers) > 1:
            self._scene.path("/run/path", np.stack(self._answers), GREEN)

    def show_frame(self, number: int, step: int = -1) -> None:
        """Show a frame of the run, at its last step."""
        with self._lock:
            try:
                frame = self.frame = self._run[number]
            except RunError as error:
                self._note.content = str(error)
                return
            if self._frames.value != number:
                self._frames.value = number
            length = 0 if frame.trace is None else len(frame.trace)
            steps = self._steps
            steps.max = max(length - 1, 1)
            steps.disabled = length < 2
            if frame.prior is not None:
                self._scene.camera("/run/prior", frame.views[0].camera, frame.prior, ORANGE, 1.2)
            else:
                self._scene.remove("/run/prior")
            way = np.zeros((0, 3))
            if frame.trace is not None:
                poses = Pose.from_quaternion(frame.trace.poses[:, :4], frame.trace.poses[:, 4:])
                way = poses.inverse().translation.numpy()
            self._scene.cloud("/run/way", way, VERMILION, self._scene.frustum / 6)
            self.show_step(length - 1 if step < 0 else min(step, length - 1))

    def show_step(self, step: int) -> None:
        """Show a step of the frame at hand: camera, points by how well they fit, picture."""
        with self._lock:
            frame = self.frame
            if frame is None:
                return
            pose = frame.cam_from_map
            points, colours = np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
            if frame.trace is not None:
                step = max(min(step, len(frame.trace) - 1), 0)
                if self._steps.value != step:
                    self._steps.value = step
                pose = frame.trace.pose(step)
                seen = np.isfinite(frame.trace.residual[step])
                points = frame.points[seen]
                colours = residual_colours(frame.trace.residual[step][seen])
            with self._server.atomic():
                self._scene.cloud("/run/points", points, colours, self._scene.spread / 250)
                if pose is None:
                    self._scene.remove("/run/cameras")
                else:
                    colour = COLOURS[frame.decision]
                    for number, view in enumerate(frame.views):
                        placed, image = view.cam_from_rig @ pose, shrink(view.image, PICTURE)
                        name = f"/run/cameras/{number}"
                        self._scene.camera(name, view.camera, placed, colour, 2.0, image)
                self._picture.image = shrink(draw_frame(frame, step), PICTURE)
                self._note.content = self._said(frame, step, pose)

    def _said(self, frame: RecordedFrame, step: int, pose: Pose | None) -> str:
        facts = frame.facts
        lines = [f"**{frame.name}**: {facts['decision']}, {facts['reason']}"]
        if frame.trace is not None and pose is not None:
            size, level = self._run.levels[int(frame.trace.levels[step])]
            seen = frame.trace.residual[step][np.isfinite(frame.trace.residual[step])]
            fits = 100 * float((seen < 1).sum()) / max(len(seen), 1)
            metres, angle = pose.distance(frame.trace.pose(-1))
            lines.append(
                f"step {step + 1} of {len(frame.trace)}, {size} px, level {level}: "
                f"{fits:.0f} % inliers, {float(metres):.4f} m "
                f"{float(torch.rad2deg(angle)):.3f} deg from the answer"
            )
        if pose is not None:
            x, y, z = pose.inverse().translation.tolist()
            lines.append(f"at {x:.3f} {y:.3f} {z:.3f}")
        return "<br>".join(lines)

    def _go_on_playing(self) -> None:
        """Step by step while `play` is ticked, from the first again after the last."""
        while not self._stop.wait(0.15):
            with self._lock:
                frame = self.frame
                if not self._play.value or frame is None or frame.trace is None:
                    continue
                self.show_step((int(self._steps.value) + 1) % len(frame.trace))

    def _follow(self) -> None:
        while not self._stop.wait(POLL):
            with self._lock:
                before = self._path_length
                try:
                    count = self._run.refresh()
                    if count == before:
                        continue
                    self._draw_path()
                except RunError as error:
                    self._note.content = str(error)
                    return
                self._frames.max = max(count - 1, 1)
                if self._live.value or self.frame is None:
                    self.show_frame(count - 1)
