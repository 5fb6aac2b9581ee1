"""What a localizer did, frame by frame, in one file that grows: `.pixrun`.

The first record says what map and network were used, every other one is a frame.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pixloc_ros.localization.pipeline import Decision
from pixloc_ros.localization.result import LocalizationResult, Prior
from pixloc_ros.localization.run_codec import RecordedFrame, decode_frame, encode_frame
from pixloc_ros.localization.run_container import RecordReader, RecordWriter, RunError
from pixloc_ros.localization.views import View
from pixloc_ros.mapping import PixMap

SUFFIX = ".pixrun"


class RunWriter:
    """Appends answers to a new file. Use as a context manager, or `close` it.

    Raises RunError where it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], pixmap: PixMap) -> None:
        self.path = Path(path)
        self._map = pixmap
        if self.path.suffix != SUFFIX:
            raise RunError(f"{path}: the name of a run ends in {SUFFIX}")
        header = pixmap.header
        facts = {
            "map": str(pixmap.path.resolve()),
            "architecture": header.architecture,
            "weights_hash": header.weights_hash,
            "levels": [[level.image_size, level.network_level] for level in header.levels],
        }
        self._records = RecordWriter(self.path)
        self._records.append({"header": np.array(json.dumps(facts))})

    def add(
        self,
        name: str,
        stamp: float,
        views: Sequence[View],
        prior: Prior | None,
        result: LocalizationResult,
        decision: Decision | None = None,
    ) -> None:
        """Keep one answer. stamp: seconds. decision: where a tracker took one."""
        record = encode_frame(self._map, name, stamp, views, prior, result, decision)
        self._records.append(record)

    def close(self) -> None:
        self._records.close()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RunFile:
    """Reads a run; `refresh` finds what was added since. Raises RunError.

    map_path: of the map that was used. levels: (image size, network level) of its levels.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._records = RecordReader(self.path)
        if not len(self._records):
            raise RunError(f"{path}: the run is cut off before its first record")
        try:
            content = json.loads(str(self._records.read(0, "header")["header"]))
            self.map_path = Path(content["map"])
            self.levels = tuple((int(a), int(b)) for a, b in content["levels"])
        except (KeyError, ValueError, TypeError):
            raise RunError(f"{path}: damaged run (header)") from None

    def refresh(self) -> int:
        """Look for records that were added; how many frames there are now."""
        self._records.refresh()
        return len(self)

    def __len__(self) -> int:
        return len(self._records) - 1

    def __getitem__(self, number: int) -> RecordedFrame:
        record = self._records.read(range(1, len(self._records))[number], f"frame {number}")
        try:
            return decode_frame(record)
        except (KeyError, ValueError, IndexError, TypeError, cv2.error):
            raise RunError(f"{self.path}: damaged run (frame {number})") from None

    def close(self) -> None:
        self._records.close()

    def __enter__(self) -> RunFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
