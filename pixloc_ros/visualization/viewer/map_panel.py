"""The references of a map: their cameras in the scene, their pictures in a panel."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixloc_ros.features import ImageError, read_image, shrink
from pixloc_ros.geometry import Camera
from pixloc_ros.mapping import PixMap
from pixloc_ros.visualization.viewer.panels import PICTURE, blank, from_browser
from pixloc_ros.visualization.viewer.scene import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    VERMILION,
    MapScene,
)

FRUSTUMS = 400
"""References that are drawn; of more, an even choice."""


AGES = {"good": GREEN, "aged": ORANGE, "unusable": VERMILION, "unvisited": GRAY}


class MapPanel:
    """images: folder of the references' pictures, or None. lock: of what browsers change. ages: of
    each reference, a word of AGES, by which its camera is coloured; empty where not known.
    """

    def __init__(
        self,
        server: Any,
        scene: MapScene,
        pixmap: PixMap,
        images: Path | None,
        lock: threading.RLock,
        ages: Sequence[str] = (),
    ) -> None:
        self._scene, self._pixmap, self._images, self._lock = scene, pixmap, images, lock
        poses, names = pixmap.poses, pixmap.names
        chosen = np.unique(np.linspace(0, len(pixmap) - 1, min(len(pixmap), FRUSTUMS)).astype(int))
        for number in chosen.tolist():
            name, camera = f"/map/references/{number}", pixmap.camera(number)
            colour = AGES[ages[number]] if ages else BLUE
            handle = scene.camera(name, camera, poses[number], colour)
            handle.on_click(lambda _, number=number: self.open(number))
        gui = server.gui
        with gui.add_folder("Map"):
            gui.add_markdown(
                f"{len(names)} references, {pixmap.point_count:,} points. "
                "Click a camera to see its picture."
            )
            if ages:
                counts = ", ".join(f"{list(ages).count(word)} {word}" for word in AGES)
                gui.add_markdown(f"By what the last drives found: {counts}.")
            self._chosen = gui.add_text("reference", names[0], hint="its name, or a part of it")
            self._note = gui.add_markdown("")
            self._shown = gui.add_image(blank())
            self._shown.visible = False
        self._chosen.on_update(from_browser(lambda _: self._find(self._chosen.value)))

    def _find(self, name: str) -> None:
        names = self._pixmap.names
        exact = [i for i, known in enumerate(names) if known == name]
        found = exact or [i for i, known in enumerate(names) if name and name in known]
        if found:
            self.open(found[0])
        else:
            self._note.content = "no reference of that name"

    def open(self, number: int) -> None:
        """Show a reference's picture and mark its camera."""
        with self._lock:
            name = self._pixmap.names[number]
            if self._chosen.value != name:
                self._chosen.value = name
            camera = self._pixmap.camera(number)
            image, why_none = self.picture(name, camera)
            seen = int(self._pixmap.observation_counts[number])
            self._note.content = f"**{name}**: {seen} points{why_none}"
            self._shown.visible = image is not None
            if image is not None:
                self._shown.image = image
            pose = self._pixmap.poses[number]
            self._scene.camera("/map/chosen", camera, pose, ORANGE, 2.5, image)

    def picture(self, name: str, camera: Camera) -> tuple[np.ndarray | None, str]:
        """The picture of a reference, and what to say of it."""
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
