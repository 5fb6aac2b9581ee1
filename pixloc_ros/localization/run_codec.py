"""What is kept of an answer, and how it becomes the arrays of a record and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from pixloc_ros.features import shrink
from pixloc_ros.geometry import Camera, Lens, Pose
from pixloc_ros.localization.pipeline import Decision
from pixloc_ros.localization.result import LocalizationResult, Prior, Reprojections, Status
from pixloc_ros.localization.run_container import Record
from pixloc_ros.localization.trace import Trace
from pixloc_ros.localization.views import View
from pixloc_ros.mapping import PixMap

LONGEST = 960
"""Longest side, in pixels, to which images are shrunk."""

_WORST = 4.0
"""Residuals are kept in 254 steps up to this; 255 is what is not visible."""


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


def encode_frame(
    pixmap: PixMap,
    name: str,
    stamp: float,
    views: Sequence[View],
    prior: Prior | None,
    result: LocalizationResult,
    decision: Decision | None,
) -> Record:
    """The record of one answer. stamp: seconds. decision: where a tracker took one."""
    aligned = result.status in (Status.SUCCESS, Status.REJECTED)
    facts = {"name": name, "stamp": stamp, **facts_of(result, decision)}
    record: Record = {
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
        record[f"image{number}"] = cv2.imencode(".jpg", image)[1]
    if result.trace is not None:
        record |= _encode_trace(result.trace, pixmap)
    return record


def _encode_trace(trace: Trace, pixmap: PixMap) -> dict[str, np.ndarray]:
    xyz = pixmap.xyz(trace.points)
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


def _camera(content: dict[str, np.ndarray], number: int, numbers: torch.Tensor) -> Camera:
    if "lenses" in content:
        return Camera.from_numbers(numbers, Lens(int(content["lenses"][number])))
    # before there were other lenses: size, focal, centre, 8 coefficients of OpenCV or 4 of a
    # fisheye, limit
    width, height, *params = numbers.tolist()
    fisheye = bool(content["fisheye"][number])
    model = "OPENCV_FISHEYE" if fisheye else "FULL_OPENCV"
    return Camera.from_colmap(model, width, height, params[: 8 if fisheye else 12])


def decode_frame(content: dict[str, np.ndarray]) -> RecordedFrame:
    """Give the frame of a record.

    Raises KeyError, ValueError, IndexError, TypeError or cv2.error where it is damaged.
    """
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
