"""PixLoc as it was published, to compare with: no map of features, no gate, every step taken.

References are read and go through the network when a query asks for them. Source: Sarlin et al.,
"Back to the Feature" (CVPR 2021), section 3 and supplement, with the settings of its authors'
release.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixloc_ros.alignment import (
    AlignmentProblem,
    LMOptions,
    QueryMap,
    average_observations,
    learned_damping,
    linearize,
    optimize_level,
)
from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.benchmark_options import Optimizer, RefinementOptions
from pixloc_ros.features import FeatureNetwork, PyramidLevel, extract_pyramid, read_image
from pixloc_ros.geometry import Camera, FeatureTable, Pose
from pixloc_ros.localization import LocalizationResult, Status
from pixloc_ros.localization.observations import LocalFrame
from pixloc_ros.mapping import SparseModel

STOP_M, STOP_DEG, STOP_GRADIENT = 5e-3, 5e-2, 1e-4
"""A level ends at a step below the first two, or at a gradient below the third."""

LOOKS = 10
"""The step that is looked at is every tenth, beginning with the first."""


@dataclass(frozen=True)
class _Samples:
    """What references show of n points.

    points: (n,) of the model. levels: (n, C + 1) features as the network gives them and
    confidence, finest last.
    """

    points: Tensor
    levels: tuple[Tensor, ...]

    @classmethod
    def cat(cls, parts: Sequence[_Samples]) -> _Samples:
        levels = zip(*(part.levels for part in parts), strict=True)
        return cls(torch.cat([part.points for part in parts]), tuple(map(torch.cat, levels)))

    def nbytes(self) -> int:
        return sum(t.nelement() * t.element_size() for t in (self.points, *self.levels))

    def averaged(self) -> _Samples:
        """One row a point."""
        points, number = self.points.unique(return_inverse=True)
        merged = []
        for rows in self.levels:
            features, confidence = average_observations(
                rows[:, :-1], rows[:, -1], number.to(rows.device), len(points)
            )
            merged.append(torch.cat([features, confidence[:, None]], 1))
        return _Samples(points, tuple(merged))


class _Failure(Exception):
    pass


class Published:
    """Localizes queries of one sparse model.

    images: folder of the references. cache_mb: memory for what was sampled of references.
    """

    def __init__(
        self,
        model: SparseModel,
        images: Path,
        network: FeatureNetwork,
        refinement: RefinementOptions,
        optimizer: Optimizer,
        resize: int,
        cache_mb: float = 1024.0,
    ) -> None:
        self._model, self._images, self._network = model, images, network
        self._refinement, self._pad = refinement, float(optimizer.pad)
        self._iterations, self._resize = optimizer.num_iters, resize
        self._points = torch.from_numpy(model.points)
        self._cameras = [entry.camera() for entry in model.cameras]
        known = range(len(network.channels))
        self._levels = sorted(refinement.layer_indices or known, reverse=True)
        if not set(self._levels) <= set(known):
            raise InputError(
                f"refinement.layer_indices={refinement.layer_indices}: "
                f"{network.architecture} has levels 0 to {len(known) - 1}"
            )
        self._room = cache_mb * 2**20
        self._cache: OrderedDict[tuple[int, int], _Samples] = OrderedDict()

    @torch.no_grad()
    def localize(
        self,
        image: np.ndarray,
        camera: Camera,
        start: Pose,
        references: Sequence[int],
        inliers: Sequence[tuple[int, Sequence[int]]] | None = None,
    ) -> LocalizationResult:
        """Align one image, from a pose `start` (), with references of the model.

        inliers: points to align with and the references that show each; otherwise all that the
        references see. Where that fails the answer holds the start.
        """
        begun = time.perf_counter()
        try:
            pose = self._localize(image, camera, start.to(torch.float64), references, inliers)
            answer = LocalizationResult(Status.SUCCESS, "aligned", pose)
        except _Failure as failure:
            answer = LocalizationResult(Status.FAILED, str(failure), start)
        answer.timings_ms["total"] = 1e3 * (time.perf_counter() - begun)
        names = tuple(self._model.names[r] for r in references)
        return replace(answer, references=names)

    def _localize(
        self,
        image: np.ndarray,
        camera: Camera,
        start: Pose,
        references: Sequence[int],
        inliers: Sequence[tuple[int, Sequence[int]]] | None,
    ) -> Pose:
        shown = self._shown(references, inliers)
        distinct = len(np.unique(np.concatenate([*shown.values(), np.zeros(0, np.int64)])))
        if distinct < self._refinement.min_points_opt:
            needed = self._refinement.min_points_opt
            raise _Failure(f"{distinct} points to align with, {needed} are needed")
        pose = start
        for scale in self._refinement.multiscale or [1]:
            size = self._resize // scale
            samples = _Samples.cat(
                [self._sampled(r, points, size, inliers is None) for r, points in shown.items()]
            )
            if self._refinement.average_observations:
                samples = samples.averaged()
            pose = self._align(image, camera, pose, samples, size)
        return pose

    def _shown(
        self, references: Sequence[int], inliers: Sequence[tuple[int, Sequence[int]]] | None
    ) -> dict[int, np.ndarray]:
        """Points (n,) of each reference, of tracks that are long enough."""
        model = self._model
        found: dict[int, np.ndarray] = {}
        if inliers is None:
            for r in references:
                found[r] = model.observed[model.offsets[r] : model.offsets[r + 1]].astype(np.int64)
        else:
            listed: dict[int, set[int]] = {r: set() for r in references}
            for point, seen_by in inliers:
                for r in seen_by:
                    if r in listed:
                        listed[r].add(point)
            found = {r: np.array(sorted(points), np.int64) for r, points in listed.items()}
        least = self._refinement.min_track_length
        return {r: points[model.track_length[points] >= least] for r, points in found.items()}

    def _sampled(self, reference: int, points: np.ndarray, size: int, keep: bool) -> _Samples:
        key = (reference, size)
        if keep and key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        samples = self._sample(reference, torch.from_numpy(points), size)
        if keep:
            self._cache[key] = samples
            while sum(s.nbytes() for s in self._cache.values()) > self._room:
                self._cache.popitem(last=False)
        return samples

    def _pyramid(self, size: int) -> list[PyramidLevel]:
        return [PyramidLevel(size, level) for level in self._levels]

    def _sample(self, reference: int, points: Tensor, size: int) -> _Samples:
        """What a reference shows of points, where it shows them on every level."""
        model = self._model
        image = read_image(self._images / model.names[reference])
        pyramid = extract_pyramid(self._network, image, self._pyramid(size), unit_norm=False)
        inside = model.pose(reference).transform(self._points[points])
        camera = self._cameras[int(model.camera_index[reference])]
        rows = []
        kept = torch.ones(len(points), dtype=torch.bool)
        for maps in pyramid.levels:
            pixels, visible = maps.camera(camera).project(inside)
            table = FeatureTable(torch.cat([maps.features, maps.confidence[None]]))
            pixels = pixels.to(maps.features)
            rows.append(table.sample(pixels))
            kept &= visible & table.inside(pixels, self._pad).cpu()
        return _Samples(points[kept], tuple(r[kept.to(r.device)] for r in rows))

    def _align(
        self, image: np.ndarray, camera: Camera, start: Pose, samples: _Samples, size: int
    ) -> Pose:
        device = self._network.device
        points = self._points[samples.points]
        frame = LocalFrame.around(points)
        local = (points - frame.origin).float()[None].to(device)
        pose = frame.from_map(start[None]).to(device)
        query = extract_pyramid(self._network, image, self._pyramid(size))
        for level, maps, rows in zip(self._levels, query.levels, samples.levels, strict=True):
            problem = AlignmentProblem(
                QueryMap.of(maps.features, maps.confidence),
                maps.camera(camera.to("cpu", torch.float64)).to(device, torch.float32),
                local,
                F.normalize(rows[None, :, :-1], dim=-1),
                rows[None, :, -1],
                torch.ones(1, len(rows), dtype=torch.bool, device=device),
                pad=self._pad,
            )
            damping = learned_damping(self._network.damping_parameters(level)).detach()
            pose = self._optimize(problem, pose, damping)
        return frame.to_map(pose.to("cpu"))[0]

    def _optimize(self, problem: AlignmentProblem, pose: Pose, damping: Tensor) -> Pose:
        left = self._iterations
        count = 1
        while left:
            if count > 1:  # up to the step that is looked at
                result = optimize_level(problem, pose, damping, _steps(count - 1))
                self._require(result.failed)
                pose = result.pose
            before = pose
            result = optimize_level(problem, before, damping, _steps(1))
            self._require(result.failed)
            pose = result.pose
            left -= count
            count = min(LOOKS, left)
            moved = (pose @ before.inverse()).translation.norm(dim=-1)
            turned = torch.rad2deg(before.distance(pose)[1])
            small = bool(((moved < STOP_M) & (turned < STOP_DEG)).all())
            if small or linearize(problem, before).gradient.norm() < STOP_GRADIENT:
                break
        return pose

    @staticmethod
    def _require(failed: Tensor) -> None:
        if bool(failed.any()):
            raise _Failure("too few points of the references are visible to align with")


def _steps(count: int) -> LMOptions:
    return LMOptions(iterations=count, tolerance=0.0, reject_steps=False)
