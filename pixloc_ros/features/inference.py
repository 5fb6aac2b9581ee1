"""A network made fast for localizing: the same pyramid of an image, in less time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor

from pixloc_ros.cuda_graphs import GraphedCallable
from pixloc_ros.errors import InputError
from pixloc_ros.fastest import Choice, fastest
from pixloc_ros.features.folding import fold_batch_norms
from pixloc_ros.features.image import check_image, resized_shape, to_tensor
from pixloc_ros.features.network import FeatureNetwork
from pixloc_ros.features.pyramid import ImagePyramid, LevelMaps, PyramidLevel
from pixloc_ros.features.runtimes import RUNTIMES, Runtime, TorchRuntime, differs


def shrinking(before: int, after: int, area: bool) -> Tensor:
    """Weights (after, before) with which OpenCV resizes along one side.

    area: the mean of the pixels that merge; else linear between two.
    """
    factor = before / after
    if area:
        edges = torch.arange(after + 1, dtype=torch.float64)[:, None] * factor
        pixels = torch.arange(before, dtype=torch.float64)
        upper, lower = torch.minimum(edges[1:], pixels + 1), torch.maximum(edges[:-1], pixels)
        return ((upper - lower).clamp(min=0) / factor).float()
    centre = ((torch.arange(after, dtype=torch.float64) + 0.5) * factor - 0.5).clamp(0, before - 1)
    first = centre.floor().long()
    second = (first + 1).clamp(max=before - 1)
    weights = torch.zeros(after, before, dtype=torch.float64)
    rows = torch.arange(after)
    weights.index_put_((rows, first), 1 - (centre - first), accumulate=True)
    weights.index_put_((rows, second), centre - first, accumulate=True)
    return weights.float()


class Extractor:
    """Pyramids of images by one network, as `extract_pyramid` gives them up to precision.

    On a GPU all of it happens there, from the bytes of the image on, and is one replayed graph.
    On a processor it begins with torch in single precision; `choose` takes what is fastest.
    runtime: the name of what runs the network.
    """

    def __init__(self, network: FeatureNetwork, levels: Sequence[PyramidLevel]) -> None:
        self.device = network.device
        self._original, self._levels = network, tuple(levels)
        self._weights: dict[tuple[int, int], Tensor] = {}
        self._graphed = GraphedCallable(self.device)
        self.runtime = "torch"
        self._run: dict[tuple[int, ...], Runtime] = {}

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which the network runs."""
        if self.device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if self.runtime.endswith("bfloat16") else torch.float32

    def _plan(self, width: int, height: int) -> dict[tuple[int, int], tuple[int, ...]]:
        """Sizes to which an image is shrunk, from the smallest on, and the levels of the network
        on each. Images are not enlarged: on small ones sizes fall together.
        """
        wanted: dict[tuple[int, int], set[int]] = {}
        for level in self._levels:
            size = resized_shape(width, height, level.image_size)
            wanted.setdefault(size, set()).add(level.network_level)
        return {size: tuple(sorted(wanted[size])) for size in sorted(wanted)}

    def _prepare(self, runtime: str, levels: tuple[int, ...]) -> Runtime:
        """What computes some levels."""
        if self.device.type == "cuda":
            return TorchRuntime(self._folded, levels, self.dtype)
        return RUNTIMES[runtime](self._original, levels)

    @cached_property
    def _folded(self) -> FeatureNetwork:
        return fold_batch_norms(self._original)

    def _running(self, levels: tuple[int, ...]) -> Runtime:
        if levels not in self._run:
            self._run[levels] = self._prepare(self.runtime, levels)
        return self._run[levels]

    @torch.no_grad()
    def choose(self, width: int, height: int, runtime: str = "auto") -> Choice | None:
        """Run the network by what is fastest for images of a size on this machine.

        runtime: one of `RUNTIMES` pins it. Returns what was measured, None where there was no
        choice. Raises InputError where a pinned runtime cannot be used.
        """
        if self.device.type != "cpu":
            return None
        if runtime != "auto":
            if runtime == self.runtime:
                return None
            plan = self._plan(width, height)
            try:
                self._run = {levels: self._prepare(runtime, levels) for levels in plan.values()}
            except (ImportError, RuntimeError) as error:
                raise InputError(f"runtime {runtime}: {error}") from None
            self.runtime = runtime
            return None
        image = _texture(width, height)
        shrunk = self._shrunk(image)
        wanted = list(self._plan(width, height).values())

        def way(name: str) -> Callable[[], Callable[[], list[Sequence[Tensor]]]]:
            def prepare() -> Callable[[], list[Sequence[Tensor]]]:
                runs = [self._prepare(name, levels) for levels in wanted]
                return lambda: [run(part) for run, part in zip(runs, shrunk, strict=True)]

            return prepare

        choice = fastest(
            f"{self._original.architecture} {self._original.weights_hash()} "
            f"{self._plan(width, height)}",
            {name: way(name) for name in RUNTIMES},
            differs,
        )
        if choice.name != self.runtime:
            self._run, self.runtime = {}, choice.name
            for levels in wanted:
                self._running(levels)
        return choice

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> ImagePyramid:
        """image: (H, W) or (H, W, 3) RGB uint8."""
        image = check_image(image)
        height, width = image.shape[:2]
        if self.device.type == "cuda":
            given = torch.from_numpy(np.ascontiguousarray(image)).pin_memory()
            self._prepare_resizing(width, height)
            # the next image of this size, of the next camera for one, is written over them
            outputs = [maps.clone() for maps in self._graphed(self._extract, [given])]
        else:
            outputs = self._extract_cpu(image)
        *maps, descriptor = outputs
        levels = []
        for number, level in enumerate(self._levels):
            stride = self._original.strides[level.network_level]
            w, h = resized_shape(width, height, level.image_size)
            levels.append(
                LevelMaps(
                    features=maps[2 * number],
                    confidence=maps[2 * number + 1],
                    scale=(w / width / stride, h / height / stride),
                    offset=self._original.offsets[level.network_level] / stride,
                )
            )
        return ImagePyramid(tuple(levels), descriptor)

    def _shrunk(self, image: np.ndarray) -> list[Tensor]:
        height, width = image.shape[:2]
        area = self._original.area_resize
        return [to_tensor(image, max(size), area)[None] for size in self._plan(width, height)]

    def _extract_cpu(self, image: np.ndarray) -> list[Tensor]:
        return self._maps(self._shrunk(image), image.shape[1], image.shape[0])

    def _extract(self, image: Tensor) -> list[Tensor]:
        """From the bytes (H, W, 3) of an image on the device."""
        height, width = image.shape[:2]
        images = []
        for w, h in self._plan(width, height):
            planes = image.permute(2, 0, 1).float()
            if (w, h) != (width, height):
                along_y, along_x = self._weights[height, h], self._weights[width, w]
                planes = along_y @ planes @ along_x.T
                if self._original.area_resize:
                    planes = planes.round()  # as bytes, from which the map was made
            images.append(planes[None] / 255)
        return self._maps(images, width, height)

    def _prepare_resizing(self, width: int, height: int) -> None:
        """Have networks and the weights of resizes on the device before they are recorded."""
        for smaller, levels in self._plan(width, height).items():
            self._running(levels)
            for sides in zip((width, height), smaller, strict=True):
                if sides not in self._weights:
                    weights = shrinking(*sides, self._original.area_resize)
                    self._weights[sides] = weights.to(self.device)

    def _maps(self, images: Sequence[Tensor], width: int, height: int) -> list[Tensor]:
        """Features and confidence of each level, and the descriptor, of an image of this size.

        images: what it was shrunk to, as planned.
        """
        plan = self._plan(width, height)
        outputs = {
            size: self._running(levels)(image)
            for (size, levels), image in zip(plan.items(), images, strict=True)
        }
        kept = torch.float32 if self.device.type == "cpu" else self.dtype
        maps = []
        for level in self._levels:
            size = resized_shape(width, height, level.image_size)
            at = 2 * plan[size].index(level.network_level)
            features, confidence = outputs[size][at : at + 2]
            # (C, H, W) of which the channels of a cell lie together
            maps += [features.to(kept).movedim(-1, 0), confidence]
        encoding = outputs[next(iter(plan))][-1]
        return [*maps, self._original.describe(encoding)[0]]


def _texture(width: int, height: int) -> np.ndarray:
    """An image with structure of all sizes, the same every time."""
    generator = np.random.default_rng(0)
    image = np.zeros((height, width, 3))
    cell = 4
    while cell < max(width, height):
        coarse = generator.random((height // cell + 2, width // cell + 2, 3))
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cell *= 2
    image -= image.min()
    return (255 * image / max(float(image.max()), 1e-9)).astype(np.uint8)
