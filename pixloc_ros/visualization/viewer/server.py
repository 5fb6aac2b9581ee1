"""Serving a map and what happened in it to web browsers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixloc_ros.errors import InputError
from pixloc_ros.localization import RunFile
from pixloc_ros.mapping import PixMap
from pixloc_ros.visualization.viewer.map_panel import MapPanel
from pixloc_ros.visualization.viewer.run_panel import POLL, RunPanel
from pixloc_ros.visualization.viewer.save_panel import SavePanel
from pixloc_ros.visualization.viewer.scene import MapScene


class Viewer:
    """Serves one map, and one run in it, to the browsers that connect.

    images: folder of the references' pictures, or None. budget: most points that are sent.
    host, port: port 0 takes a free one. follow: the run is being recorded, look for more.
    ages: of the references, see `MapPanel`.
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
        ages: Sequence[str] = (),
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
        self.pixmap = pixmap
        lock = threading.RLock()
        self._stop = threading.Event()
        self._server: Any = viser.ViserServer(
            host=host, port=port, verbose=False, label="pixloc_ros"
        )
        self.address = f"http://{host}:{port}"
        self._server.gui.configure_theme(
            dark_mode=dark, show_share_button=False, show_logo=False, control_width="large"
        )
        self.scene = MapScene(self._server, pixmap, budget)
        self.map_panel = MapPanel(self._server, self.scene, pixmap, images, lock, ages)
        self.run_panel: RunPanel | None = None
        if run is not None:
            self.run_panel = RunPanel(self._server, self.scene, run, follow, lock, self._stop)
        SavePanel(self._server, self.run_panel, lock)

    def wait(self) -> None:
        """Until Ctrl-C."""
        while not self._stop.wait(1.0):
            pass

    def close(self) -> None:
        self._stop.set()
        self._server.stop()
        # the threads look at what a caller closes next
        time.sleep(POLL)
