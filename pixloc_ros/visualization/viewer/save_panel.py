"""Pictures and videos of what the viewer shows, sent to the browser that asks."""

from __future__ import annotations

import threading
from typing import Any

import cv2

from pixloc_ros.visualization.video import encode
from pixloc_ros.visualization.viewer.panels import from_browser
from pixloc_ros.visualization.viewer.run_panel import RunPanel


class SavePanel:
    """run: whose steps make a video, where there is one. lock: of what browsers change."""

    def __init__(self, server: Any, run: RunPanel | None, lock: threading.RLock) -> None:
        self._server, self._run, self._lock = server, run, lock
        gui = server.gui
        with gui.add_folder("Save", expand_by_default=False):
            gui.add_button("this view as PNG").on_click(from_browser(self._save_picture))
            if run is not None:
                gui.add_button("the steps as MP4").on_click(from_browser(self._save_film))

    def _save_picture(self, client: Any) -> None:
        height, width = client.camera.image_height, client.camera.image_width
        image = client.get_render(height=height, width=width, transport_format="png")
        bgr = cv2.cvtColor(image[..., :3], cv2.COLOR_RGB2BGR)
        content = cv2.imencode(".png", bgr)[1].tobytes()
        client.send_file_download("pixloc.png", content, save_immediately=True)

    def _save_film(self, client: Any) -> None:
        with self._lock:
            if self._run is None or self._run.frame is None or self._run.frame.trace is None:
                return
            images = []
            for step in range(len(self._run.frame.trace)):
                self._run.show_step(step)
                self._server.flush()
                images.append(client.get_render(height=480, width=640)[..., :3])
            film = encode(images, 5.0)
            client.send_file_download("pixloc.mp4", film, save_immediately=True)
