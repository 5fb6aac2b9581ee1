"""A map and what happened in it, in the web browser."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.spatial import KDTree

from pixloc_ros.errors import InputError
from pixloc_ros.features import ImageError, read_image, shrink
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import Decision, RecordedFrame, RunError, RunFile
from pixloc_ros.mapping import PixMap
from pixloc_ros.visualization.overlay import draw_frame, residual_colours
from pixloc_ros.visualization.style import heat
from pixloc_ros.visualization.video import encode

FRUSTUMS = 400
"""References that are drawn; of more, an even choice."""

PICTURE = 480
"""Longest side of pictures in the panel, pixels."""

POLL = 0.5
"""Seconds between looks for new frames of a run that is being recorded."""

_BLUE, _VERMILION, _ORANGE, _GREEN = (0, 114, 178), (213, 94, 0), (230, 159, 0), (0, 158, 115)
_COLOURS = {Decision.FIX: _GREEN, Decision.CANDIDATE: _ORANGE, Decision.REFUSED: _VERMILION}


def _from_browser(action: Callable[[Any], object]) -> Callable[[Any], None]:
    """A callback that ignores what this program changes itself; action takes the client."""

    def called(event: Any) -> None:
        if event.client is not None:
            action(event.client)

    return called


class Viewer:
    """Serves one map, and one run in it, to the browsers that connect.

    images: folder of the references' pictures, or None. budget: most points that are sent.
    host, port: port 0 takes a free one. follow: the run is being recorded, look for more.
    Raises InputError where the address cannot be listened on, or viser is not installed.
    """

    def __init__(
        self,
        pixmap: PixMap,
        run: RunFile | None = None,
        images: Path | None = None,
        budget: int = 1_000_000,
        host: str = "127.0.0.1",
        port: int = 8080,
        dark: bool = False,
        follow: bool = False,
    ) -> None:
        try:
            import viser
        except ImportError as error:
            hint = "pip install 'pixloc_ros[view]'"
            raise InputError(f"the viewer needs viser: {hint} ({error})") from None
        try:
            # viser would take the next free port and not say so
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                port = probe.getsockname()[1]
        except OSError as error:
            raise InputError(f"{host}:{port}: {error.strerror or error}") from None
        self.pixmap, self.run, self._images = pixmap, run, images
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._handles: dict[str, Any] = {}
        self._frame: RecordedFrame | None = None
        self._server: Any = viser.ViserServer(
            host=host, port=port, verbose=False, label="pixloc_ros"
        )
        self.address = f"http://{host}:{port}"
        self._server.gui.configure_theme(
            dark_mode=dark, show_share_button=False, show_logo=False, control_width="large"
        )
        self._draw_map(budget)
        self._make_reference_panel()
        if run is not None:
            self._make_run_panel(run, follow)
        self._make_saving_panel()

    # -- the map -----------------------------------------------------------------------------

    def _draw_map(self, budget: int) -> None:
        """Points coloured by height, cameras, and a first look from above and behind."""
        pixmap, scene = self.pixmap, self._server.scene
        poses = pixmap.poses
        self._centres = pixmap.centres()
        # cameras stand upright, whatever the axes of the map
        up = -poses.rotation[:, 1].mean(0)
        up = up / up.norm().clamp(min=1e-9)
        scene.set_up_direction(tuple(up.tolist()))
        points = pixmap.some_points(4 * budget)
        if len(points) > budget:
            points = points[np.sort(np.random.default_rng(0).permutation(len(points))[:budget])]
        height = points @ up.numpy()
        low, high = np.percentile(height, [2, 98])
        # single precision about the middle keeps millimetres in geographic coordinates
        self._origin = np.median(self._centres, axis=0)
        self._spread = float(np.percentile(np.abs(points - self._origin).max(1), 80)) or 1.0
        # the brightest colours are lost on white
        colours = heat(0.8 * np.clip((height - low) / max(high - low, 1e-9), 0, 1))
        self._cloud("/map/points", points - self._origin, colours, self._spread / 350)
        chosen = np.unique(np.linspace(0, len(pixmap) - 1, min(len(pixmap), FRUSTUMS)).astype(int))
        self._scale = self._frustum_size()
        for number in chosen.tolist():
            camera = pixmap.camera(number)
            handle = self._frustum(f"/map/references/{number}", camera, poses[number], _BLUE)
            handle.on_click(lambda _, number=number: self.open_reference(number))
        ahead = poses.rotation[:, 2].mean(0)
        back = (up - ahead / ahead.norm().clamp(min=1e-9)).numpy() * 1.2 * self._spread
        self._server.initial_camera.position = tuple(back)
        self._server.initial_camera.look_at = (0.0, 0.0, 0.0)

    def _cloud(
        self, name: str, points: np.ndarray, colours: np.ndarray | tuple, size: float
    ) -> None:
        """Points (n, 3) about the origin of the scene, in place of those of that name."""
        if len(points):
            self._server.scene.add_point_cloud(
                name,
                points.astype(np.float32),
                colours,
                point_size=size,
                point_shape="circle",
                precision="float32",
            )
        else:
            self._server.scene.remove_by_name(name)

    def _frustum_size(self) -> float:
        """Such that neighbours can be told apart, in metres."""
        # each is its own nearest
        distances, _ = KDTree(self._centres).query(self._centres, k=[min(2, len(self._centres))])
        apart = float(np.median(distances))
        return float(np.clip(2 * apart, self._spread / 100, self._spread / 30))

    def _frustum(
        self,
        name: str,
        camera: Camera,
        cam_from_map: Pose,
        colour: tuple[int, int, int],
        size: float = 1.0,
        image: np.ndarray | None = None,
    ) -> Any:
        """A camera in the scene, in place of the one of that name. size: of a reference's."""
        width, height = camera.size.tolist()
        pose = cam_from_map.inverse()
        return self._server.scene.add_camera_frustum(
            name,
            fov=2 * math.atan(height / 2 / float(camera.focal[1])),
            aspect=width / height,
            wxyz=pose.quaternion().numpy(),
            position=pose.translation.numpy() - self._origin,
            scale=size * self._scale,
            thickness=size * self._scale / 20,
            color=colour,
            image=image,
        )

    # -- references --------------------------------------------------------------------------

    def _make_reference_panel(self) -> None:
        gui, names = self._server.gui, self.pixmap.names
        with gui.add_folder("Map"):
            gui.add_markdown(
                f"{len(names)} references, {self.pixmap.point_count:,} points. "
                "Click a camera to see its picture."
            )
            chosen = gui.add_text("reference", names[0], hint="its name, or a part of it")
            self._handles["reference"] = chosen
            self._handles["picture_note"] = gui.add_markdown("")
            self._handles["picture"] = gui.add_image(np.full((2, 3, 3), 128, np.uint8))
            self._handles["picture"].visible = False
            chosen.on_update(_from_browser(lambda _: self._find_reference(chosen.value)))

    def _find_reference(self, name: str) -> None:
        names = self.pixmap.names
        exact = [i for i, known in enumerate(names) if known == name]
        found = exact or [i for i, known in enumerate(names) if name and name in known]
        if found:
            self.open_reference(found[0])
        else:
            self._handles["picture_note"].content = "no reference of that name"

    def open_reference(self, number: int) -> None:
        """Show a reference's picture and mark its camera."""
        with self._lock:
            name, handles = self.pixmap.names[number], self._handles
            if handles["reference"].value != name:
                handles["reference"].value = name
            camera = self.pixmap.camera(number)
            image, note = self._picture(name, camera)
            seen = int(self.pixmap.observation_counts[number])
            handles["picture_note"].content = f"**{name}**: {seen} points{note}"
            handles["picture"].visible = image is not None
            if image is not None:
                handles["picture"].image = image
            self._frustum("/map/chosen", camera, self.pixmap.poses[number], _ORANGE, 2.5, image)

    def _picture(self, name: str, camera: Camera) -> tuple[np.ndarray | None, str]:
        if self._images is None:
            return None, " (pictures: start with --images)"
        root = self._images.resolve()
        path = (root / name).resolve()
        # names come from a file
        if not path.is_relative_to(root):
            return None, " (its name leads out of the folder of images)"
        try:
            image = read_image(path)
        except ImageError as error:
            return None, f" ({error})"
        if image.shape[1::-1] != tuple(int(v) for v in camera.size.tolist()):
            return shrink(image, PICTURE), " (a picture of another size)"
        return shrink(image, PICTURE), ""

    # -- a run -------------------------------------------------------------------------------

    def _make_run_panel(self, run: RunFile, follow: bool) -> None:
        gui = self._server.gui
        last = max(len(run) - 1, 1)
        with gui.add_folder("Run", order=-1):
            frames = gui.add_slider("frame", 0, last, 1, 0)
            steps = gui.add_slider("step", 0, 1, 1, 0)
            play = gui.add_checkbox("play", False)
            live = gui.add_checkbox("newest", follow, visible=follow)
            note = gui.add_markdown("waiting for the first frame")
            picture = gui.add_image(np.full((2, 3, 3), 128, np.uint8))
        self._handles |= {
            "frame": frames,
            "step": steps,
            "play": play,
            "live": live,
            "note": note,
            "query": picture,
        }
        frames.on_update(_from_browser(lambda _: self.show_frame(int(frames.value))))
        steps.on_update(_from_browser(lambda _: self.show_step(int(steps.value))))
        if len(run):
            self.show_frame(0)
        self._path_length = 0
        self._answers: list[np.ndarray] = []
        self._draw_path(run)
        self._spawn(self._play, "pixloc_play")
        if follow:
            self._spawn(self._follow, "pixloc_follow")

    def _spawn(self, target: Callable[[], None], name: str) -> None:
        threading.Thread(target=target, name=name, daemon=True).start()

    def _draw_path(self, run: RunFile) -> None:
        """The believed answers one after the other."""
        count = len(run)
        while self._path_length < count:
            frame = run[self._path_length]
            self._path_length += 1
            if frame.decision is Decision.FIX and frame.cam_from_map is not None:
                self._answers.append(
                    frame.cam_from_map.inverse().translation.numpy() - self._origin
                )
        if len(self._answers) > 1:
            path = np.stack(self._answers).astype(np.float32)
            segments = np.stack([path[:-1], path[1:]], 1)
            self._server.scene.add_line_segments(
                "/run/path", segments, _GREEN, thickness=self._scale / 10
            )

    def show_frame(self, number: int, step: int = -1) -> None:
        """Show a frame of the run, at its last step."""
        assert self.run is not None
        with self._lock:
            try:
                frame = self._frame = self.run[number]
            except RunError as error:
                self._handles["note"].content = str(error)
                return
            if self._handles["frame"].value != number:
                self._handles["frame"].value = number
            length = 0 if frame.trace is None else len(frame.trace)
            steps = self._handles["step"]
            steps.max = max(length - 1, 1)
            steps.disabled = length < 2
            scene = self._server.scene
            if frame.prior is not None:
                self._frustum("/run/prior", frame.views[0].camera, frame.prior, _ORANGE, 1.2)
            else:
                scene.remove_by_name("/run/prior")
            way = np.zeros((0, 3))
            if frame.trace is not None:
                poses = Pose.from_quaternion(frame.trace.poses[:, :4], frame.trace.poses[:, 4:])
                way = poses.inverse().translation.numpy() - self._origin
            self._cloud("/run/way", way, _VERMILION, self._scale / 6)
            self.show_step(length - 1 if step < 0 else min(step, length - 1))

    def show_step(self, step: int) -> None:
        """Show a step of the frame at hand: camera, points by how well they fit, picture."""
        with self._lock:
            frame, scene, handles = self._frame, self._server.scene, self._handles
            if frame is None:
                return
            pose = frame.cam_from_map
            points, colours = np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
            if frame.trace is not None:
                step = max(min(step, len(frame.trace) - 1), 0)
                if handles["step"].value != step:
                    handles["step"].value = step
                pose = frame.trace.pose(step)
                seen = np.isfinite(frame.trace.residual[step])
                points = frame.points[seen] - self._origin
                colours = residual_colours(frame.trace.residual[step][seen])
            with self._server.atomic():
                self._cloud("/run/points", points, colours, self._spread / 250)
                if pose is None:
                    scene.remove_by_name("/run/cameras")
                else:
                    colour = _COLOURS[frame.decision]
                    for number, view in enumerate(frame.views):
                        placed, image = view.cam_from_rig @ pose, shrink(view.image, PICTURE)
                        name = f"/run/cameras/{number}"
                        self._frustum(name, view.camera, placed, colour, 2.0, image)
                handles["query"].image = shrink(draw_frame(frame, step), PICTURE)
                handles["note"].content = self._said(frame, step, pose)

    def _said(self, frame: RecordedFrame, step: int, pose: Pose | None) -> str:
        facts = frame.facts
        lines = [f"**{frame.name}**: {facts['decision']}, {facts['reason']}"]
        if frame.trace is not None and pose is not None:
            assert self.run is not None
            size, level = self.run.levels[int(frame.trace.levels[step])]
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

    def _play(self) -> None:
        """Step by step while `play` is ticked, from the first again after the last."""
        while not self._stop.wait(0.15):
            with self._lock:
                frame, handles = self._frame, self._handles
                if not handles["play"].value or frame is None or frame.trace is None:
                    continue
                self.show_step((int(handles["step"].value) + 1) % len(frame.trace))

    def _follow(self) -> None:
        assert self.run is not None
        while not self._stop.wait(POLL):
            with self._lock:
                before = self._path_length
                try:
                    count = self.run.refresh()
                    if count == before:
                        continue
                    self._draw_path(self.run)
                except RunError as error:
                    self._handles["note"].content = str(error)
                    return
                self._handles["frame"].max = max(count - 1, 1)
                if self._handles["live"].value or self._frame is None:
                    self.show_frame(count - 1)

    # -- pictures and videos -----------------------------------------------------------------

    def _make_saving_panel(self) -> None:
        gui = self._server.gui
        with gui.add_folder("Save", expand_by_default=False):
            picture = gui.add_button("this view as PNG")
            picture.on_click(_from_browser(self._save_picture))
            if self.run is not None:
                film = gui.add_button("the steps as MP4")
                film.on_click(_from_browser(self._save_film))

    def _save_picture(self, client: Any) -> None:
        height, width = client.camera.image_height, client.camera.image_width
        image = client.get_render(height=height, width=width, transport_format="png")
        bgr = cv2.cvtColor(image[..., :3], cv2.COLOR_RGB2BGR)
        content = cv2.imencode(".png", bgr)[1].tobytes()
        client.send_file_download("pixloc.png", content, save_immediately=True)

    def _save_film(self, client: Any) -> None:
        with self._lock:
            if self._frame is None or self._frame.trace is None:
                return
            images = []
            for step in range(len(self._frame.trace)):
                self.show_step(step)
                self._server.flush()
                images.append(client.get_render(height=480, width=640)[..., :3])
            film = encode(images, 5.0)
            client.send_file_download("pixloc.mp4", film, save_immediately=True)

    # -- serving -----------------------------------------------------------------------------

    def wait(self) -> None:
        """Until Ctrl-C."""
        while not self._stop.wait(1.0):
            pass

    def close(self) -> None:
        self._stop.set()
        self._server.stop()
        # the threads look at what a caller closes next
        time.sleep(POLL)
