"""The original PixLoc, run from a checkout of its repository on the same query as ours."""

from __future__ import annotations

import importlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from pixloc_ros.errors import InputError
from pixloc_ros.features import read_image
from pixloc_ros.features.pixloc import PixLocNetwork
from pixloc_ros.geometry import Pose
from pixloc_ros.mapping import SparseModel
from pixloc_ros.mapping.sparse_model import CameraEntry

QUERY = "the query"

# what its MegaDepth experiment was trained and is run with
_MODEL: dict[str, Any] = {
    "name": "two_view_refiner",
    "normalize_features": True,
    "duplicate_optimizer_per_scale": True,
    "extractor": {
        "name": "unet",
        "decoder": [64, 64, 64, 32],
        "output_scales": [0, 2, 4],
        "output_dim": [32, 128, 128],
        "compute_uncertainty": True,
    },
    "optimizer": {
        "name": "learned_optimizer",
        "interpolation": {"mode": "linear", "pad": 2},
        "lambda_": 0.01,
        "loss_fn": "scaled_barron(0, 0.1)",
        "learned_damping": True,
        "damping": {"type": "constant"},
    },
}


def _backbone(layers: Sequence[int]) -> Callable[..., SimpleNamespace]:
    """What torchvision's VGG constructors give it: the layers, without pretrained weights."""

    def make(**_: Any) -> SimpleNamespace:
        features: list[nn.Module] = []
        before = 3
        for width, count in zip((64, 128, 256, 512, 512), layers, strict=True):
            for _layer in range(count):
                features += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
                before = width
            features.append(nn.MaxPool2d(2))
        return SimpleNamespace(features=nn.Sequential(*features))

    return make


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Make the checkout importable, with stand-ins for what it needs of older libraries."""
    models = ModuleType("torchvision.models")
    models.vgg16, models.vgg19 = _backbone((2, 2, 3, 3, 3)), _backbone((2, 2, 4, 4, 4))  # type: ignore[attr-defined]
    vision = ModuleType("torchvision")
    vision.models = models  # type: ignore[attr-defined]
    six = ModuleType("torch._six")
    six.string_classes = (str, bytes)  # type: ignore[attr-defined]
    stand_ins = {"torchvision": vision, "torchvision.models": models, "torch._six": six}
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


@dataclass(frozen=True)
class Run:
    """One run: wall time and what came out. pose: None where it failed."""

    ms: float
    pose: Pose | None


def require_checkout(folder: Path) -> None:
    """Raise InputError where the original cannot be."""
    if not (folder / "pixloc" / "localization" / "refiners.py").is_file():
        raise InputError(f"{folder}: not a checkout of the original (no pixloc/localization)")


class Original:
    """Its retrieval refiner on some references of a model, on weights of ours.

    folder: of the checkout. references: indices, the first is the start pose. stop_early:
    whether it may stop before `iterations` a level. Images are read once, not timed.
    Raises InputError when the checkout cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        model: SparseModel,
        images: Path,
        references: Sequence[int],
        network: PixLocNetwork,
        iterations: int,
        stop_early: bool,
    ) -> None:
        require_checkout(folder)
        gradients = torch.is_grad_enabled()
        with _importable(folder):
            try:
                parts = {
                    name: importlib.import_module(f"pixloc.{name}")
                    for name in (
                        "localization.refiners",
                        "localization.base_refiner",
                        "localization.feature_extractor",
                        "localization.model3d",
                        "pixlib.models",
                        "pixlib.geometry",
                        "utils.colmap",
                    )
                }
            except ImportError as error:
                raise InputError(f"{folder}: the original does not import: {error}") from None
            encoder = network.architecture.removeprefix("pixloc_")
            extractor = _MODEL["extractor"] | {"encoder": encoder}
            optimizer = _MODEL["optimizer"] | {"num_iters": iterations}
            if not stop_early:
                optimizer |= {"grad_stop_criteria": 0.0, "dt_stop_criteria": 0.0}
            pipeline = parts["pixlib.models"].get_model("two_view_refiner")(
                _MODEL | {"extractor": extractor, "optimizer": optimizer}
            )
        logging.getLogger("pixloc").setLevel(logging.ERROR)
        # importing it switches gradients off for everybody
        torch.set_grad_enabled(gradients)
        missing = pipeline.load_state_dict(network.state_dict(), strict=False).missing_keys
        if missing:
            raise InputError(f"{folder}: its network wants {missing[0]}, ours has none")
        pipeline = pipeline.to(network.device).eval()
        self._device = network.device
        self._geometry = parts["pixlib.geometry"]
        self._references = [int(r) for r in references]
        names = [model.names[r] for r in references]
        read = self._images = {name: read_image(images / name) for name in names}
        base: Any = parts["localization.base_refiner"]
        base.read_image = lambda path: read[path.name_of]
        feature_extractor = parts["localization.feature_extractor"].FeatureExtractor(
            pipeline.extractor, network.device, {}
        )
        self._refiner = parts["localization.refiners"].RetrievalRefiner(
            network.device,
            list(pipeline.optimizer),
            _scene(parts["localization.model3d"].Model3D, parts["utils.colmap"], model),
            feature_extractor,
            SimpleNamespace(reference_images=_Names(), query_images=_Names()),
            {"num_dbs": len(self._references), "min_track_length": 3},
        )

    def observations(self) -> int:
        """Observations that its references make of the points it uses."""
        chosen = self._refiner.model3d.get_p3did_to_dbids(self._references)
        return sum(len(seen) for seen in chosen.values())

    def localize(self, image: np.ndarray, camera: CameraEntry) -> Run:
        """image: RGB uint8."""
        self._images[QUERY] = image
        taken = self._geometry.Camera.from_colmap(
            {
                "model": camera.model,
                "width": camera.width,
                "height": camera.height,
                "params": np.array(camera.params),
            }
        )
        with torch.no_grad():
            begun = time.perf_counter()
            try:
                answer = self._refiner.refine(QUERY, taken, self._references)
            except RuntimeError as error:  # a system that is not positive definite
                answer = {"success": False, "reason": str(error)}
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            ms = 1e3 * (time.perf_counter() - begun)
        if not answer["success"]:
            return Run(ms, None)
        found = answer["T_refined"]
        return Run(ms, Pose(found.R.double().cpu(), found.t.double().cpu()))


class _Names:
    """Stands for a folder whose files are already read."""

    def __truediv__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name_of=name)


def _scene(model3d: Any, colmap: ModuleType, model: SparseModel) -> Any:
    """Its view of a model, without the way over files."""
    scene = model3d.__new__(model3d)
    scene.cameras = {
        i: colmap.Camera(i, c.model, c.width, c.height, np.array(c.params))
        for i, c in enumerate(model.cameras)
    }
    scene.dbs = {}
    seen_by: list[list[int]] = [[] for _ in model.points]
    for number, name in enumerate(model.names):
        observed = model.observed[model.offsets[number] : model.offsets[number + 1]]
        for point in observed:
            seen_by[point].append(number)
        scene.dbs[number] = colmap.Image(
            number,
            model.quaternion[number],
            model.translation[number],
            int(model.camera_index[number]),
            name,
            np.zeros((len(observed), 2)),
            observed.astype(np.int64),
        )
    scene.points3D = {
        point: colmap.Point3D(point, xyz, np.zeros(3), 0.0, np.array(seen), np.zeros(len(seen)))
        for point, (xyz, seen) in enumerate(zip(model.points, seen_by, strict=True))
    }
    scene.name2id = {name: number for number, name in enumerate(model.names)}
    return scene
