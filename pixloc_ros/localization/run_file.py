"""What a localizer did, frame by frame, in one file that grows: `.pixrun`.

    pixloc run 1            the first line
    records                 length (uint64), CRC-32 (uint32), and a compressed .npz of that length

The first record says what map and network were used, every other one is a frame. A record is
whole or it is not there: what was cut off while it was written is not read, and a reader may
follow a file that is being written.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.features import shrink
from pixloc_ros.geometry import Camera, Lens, Pose
from pixloc_ros.localization.localizer import View
from pixloc_ros.localization.pipeline import Decision
from pixloc_ros.localization.result import LocalizationResult, Prior, Reprojections, Status
from pixloc_ros.localization.trace import Trace
from pixloc_ros.mapping import PixMap

SUFFIX = ".pixrun"
FIRST_LINE = b"pixloc run 1\n"
LONGEST = 960
"""Longest side, in pixels, to which images are shrunk."""

_HEAD = struct.Struct("<QI")
_LARGEST = 1 << 30
_WORST = 4.0
"""Residuals are kept in 254 steps up to this; 255 is what is not visible."""


class RunError(InputError):
    """A run file that cannot be used, with the file and the reason in one line."""


@dataclass(frozen=True)
class RecordedView:
    """One camera's image of a moment. image: (h, w, 3) RGB, at most LONGEST pixels a side."""

    image: np.ndarray
    camera: Camera
    cam_from_rig: Pose

    @property
    def shrunk(self) -> Camera:
        """The camera of the image as it was kept."""
        return self.camera.resize(self.image.shape[1], self.image.shape[0])


@dataclass(frozen=True)
class RecordedFrame:
    """One answer and what it rests on.

    facts: what `localize --report` says of it. cam_from_map: the best guess, believed or not;
    None where there is none. prior: where the camera was expected, or None. trace: None where
    nothing was aligned; points: (N, 3) in the map frame of its observations.
    """

    name: str
    stamp: float
    facts: dict[str, Any]
    views: tuple[RecordedView, ...]
    cam_from_map: Pose | None
    prior: Pose | None
    trace: Trace | None
    points: np.ndarray

    @property
    def decision(self) -> Decision:
        return Decision(self.facts["decision"])

    def reprojections(self, step: int, view: int) -> Reprojections:
        """Where a view, as it was kept, shows the visible points at a step of the trace."""
        if self.trace is None:
            return Reprojections(np.zeros((0, 2)), np.zeros(0))
        here = (self.trace.views == view) & np.isfinite(self.trace.residual[step])
        recorded = self.views[view]
        pose = recorded.cam_from_rig @ self.trace.pose(step)
        inside = pose.transform(torch.from_numpy(self.points[here]))
        pixels, _ = recorded.shrunk.project(inside)
        return Reprojections(pixels.numpy(), self.trace.residual[step][here])


def facts_of(result: LocalizationResult, decision: Decision | None = None) -> dict[str, Any]:
    """Of one answer, as plain values. decision: where a tracker took one."""
    alone = Decision.FIX if result.ok else Decision.REFUSED
    entry: dict[str, Any] = {
        "decision": (decision or alone).value,
        "status": result.status.value,
        "reason": result.reason,
        "from_prior": result.from_prior,
        "references": list(result.references),
        "timings_ms": {k: round(v, 2) for k, v in result.timings_ms.items()},
    }
    if result.status in (Status.SUCCESS, Status.REJECTED):
        statistics = result.statistics
        entry |= {
            "points": statistics.points,
            "visible": round(statistics.visible, 4),
            "matches": statistics.matches,
            "inliers": round(statistics.inliers, 4),
            "patches": statistics.patches,
            "patch_share": round(statistics.patch_share, 4),
            "cost": statistics.cost,
        }
    if result.map:
        entry["map"] = result.map
    if result.ok:
        entry["covariance"] = result.covariance.tolist()
    return entry


def _seven(pose: Pose | None) -> np.ndarray:
    if pose is None:
        return np.zeros(0)
    return torch.cat([pose.quaternion(), pose.translation], -1).double().cpu().numpy()


def _pose(numbers: np.ndarray) -> Pose | None:
    return Pose.from_quaternion(numbers[:4], numbers[4:]) if len(numbers) else None


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
        try:
            self._file = self.path.open("wb")
            self._file.write(FIRST_LINE)
        except OSError as error:
            raise RunError(f"{path}: {error.strerror or error}") from None
        self._append({"header": np.array(json.dumps(facts))})

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
        aligned = result.status in (Status.SUCCESS, Status.REJECTED)
        facts = {"name": name, "stamp": stamp, **facts_of(result, decision)}
        content: dict[str, np.ndarray] = {
            "facts": np.array(json.dumps(facts)),
            "pose": _seven(result.cam_from_map if aligned else None),
            "prior": _seven(None if prior is None else prior.cam_from_map),
            "cameras": np.stack([view.camera.numbers().double().cpu() for view in views]),
            "lenses": np.array([int(view.camera.lens) for view in views]),
            "mounts": np.stack([_seven(view.cam_from_rig) for view in views]),
        }
        for number, view in enumerate(views):
            gray = view.image.ndim == 2
            code = cv2.COLOR_GRAY2BGR if gray else cv2.COLOR_RGB2BGR
            image = cv2.cvtColor(shrink(view.image, LONGEST), code)
            content[f"image{number}"] = cv2.imencode(".jpg", image)[1]
        if result.trace is not None:
            content |= self._packed(result.trace)
        self._append(content)

    def _packed(self, trace: Trace) -> dict[str, np.ndarray]:
        xyz = self._map.xyz(trace.points)
        origin = xyz.mean(0) if len(xyz) else np.zeros(3)
        share = np.minimum(trace.residual, _WORST) / _WORST
        return {
            "levels": trace.levels,
            "poses": trace.poses,
            "residual": np.where(np.isfinite(trace.residual), np.rint(254 * share), 255).astype(
                np.uint8
            ),
            "confidence": np.rint(255 * trace.confidence).astype(np.uint8),
            "points": trace.points.astype(np.int32),
            "references": trace.references.astype(np.int32),
            "views": trace.views,
            "origin": origin,
            "xyz": (xyz - origin).astype(np.float32),
        }

    def _append(self, content: dict[str, np.ndarray]) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **content)  # type: ignore[arg-type]
        record = buffer.getvalue()
        try:
            self._file.write(_HEAD.pack(len(record), zlib.crc32(record)) + record)
            self._file.flush()
        except OSError as error:
            raise RunError(f"{self.path}: {error.strerror or error}") from None

    def close(self) -> None:
        self._file.close()

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
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise RunError(f"{path}: {error.strerror or error}") from None
        self._at: list[tuple[int, int, int]] = []
        self._end = len(FIRST_LINE)
        if self._file.read(len(FIRST_LINE)) != FIRST_LINE:
            self._file.close()
            raise RunError(f"{path}: not a recorded run")
        self.refresh()
        if not self._at:
            raise RunError(f"{path}: the run is cut off before its first record")
        position, length, check = self._at.pop(0)
        try:
            content = json.loads(str(self._read(position, length, check, "header")["header"]))
            self.map_path = Path(content["map"])
            self.levels = tuple((int(a), int(b)) for a, b in content["levels"])
        except (KeyError, ValueError, TypeError):
            raise RunError(f"{path}: damaged run (header)") from None

    def refresh(self) -> int:
        """Look for records that were added; how many frames there are now."""
        size = os.fstat(self._file.fileno()).st_size
        while self._end + _HEAD.size <= size:
            self._file.seek(self._end)
            length, check = _HEAD.unpack(self._file.read(_HEAD.size))
            if length > _LARGEST:
                raise RunError(f"{self.path}: damaged run (a record of {length} bytes)")
            begin = self._end + _HEAD.size
            if begin + length > size:
                break
            self._at.append((begin, length, check))
            self._end = begin + length
        return len(self._at)

    def __len__(self) -> int:
        return len(self._at)

    def _read(self, position: int, length: int, check: int, what: str) -> dict[str, np.ndarray]:
        self._file.seek(position)
        record = self._file.read(length)
        if zlib.crc32(record) != check:
            raise RunError(f"{self.path}: damaged run ({what})")
        try:
            with np.load(io.BytesIO(record), allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (ValueError, OSError, zipfile.BadZipFile, zlib.error):
            raise RunError(f"{self.path}: damaged run ({what})") from None

    def __getitem__(self, number: int) -> RecordedFrame:
        content = self._read(*self._at[number], f"frame {number}")
        try:
            return _frame(content)
        except (KeyError, ValueError, IndexError, TypeError, cv2.error):
            raise RunError(f"{self.path}: damaged run (frame {number})") from None

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> RunFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _camera(content: dict[str, np.ndarray], number: int, numbers: torch.Tensor) -> Camera:
    if "lenses" in content:
        return Camera.from_numbers(numbers, Lens(int(content["lenses"][number])))
    # before there were other lenses: size, focal, centre, 8 coefficients of OpenCV or 4 of a
    # fisheye, limit
    width, height, *params = numbers.tolist()
    fisheye = bool(content["fisheye"][number])
    model = "OPENCV_FISHEYE" if fisheye else "FULL_OPENCV"
    return Camera.from_colmap(model, width, height, params[: 8 if fisheye else 12])


def _frame(content: dict[str, np.ndarray]) -> RecordedFrame:
    facts = json.loads(str(content["facts"]))
    # before decisions were kept
    alone = Decision.FIX if facts["status"] == Status.SUCCESS.value else Decision.REFUSED
    facts.setdefault("decision", alone.value)
    views = []
    for number, numbers in enumerate(content["cameras"]):
        camera = _camera(content, number, torch.from_numpy(numbers))
        mount = _pose(content["mounts"][number])
        image = cv2.imdecode(content[f"image{number}"], cv2.IMREAD_COLOR)
        if image is None or mount is None:
            raise ValueError("an image is damaged")
        views.append(RecordedView(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), camera, mount))
    trace, points = None, np.zeros((0, 3))
    if "levels" in content:
        kept = content["residual"]
        trace = Trace(
            content["levels"],
            content["poses"],
            np.where(kept == 255, np.inf, kept * (_WORST / 254)).astype(np.float32),
            content["confidence"].astype(np.float32) / 255,
            content["points"],
            content["references"],
            content["views"],
        )
        points = content["origin"] + content["xyz"]
    return RecordedFrame(
        name=str(facts.pop("name")),
        stamp=float(facts.pop("stamp")),
        facts=facts,
        views=tuple(views),
        cam_from_map=_pose(content["pose"]),
        prior=_pose(content["prior"]),
        trace=trace,
        points=points,
    )
