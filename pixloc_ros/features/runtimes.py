"""Ways to run a network on a processor: torch, or another runtime where it is installed."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixloc_ros.features.folding import fold_batch_norms, fold_padding
from pixloc_ros.features.network import FeatureNetwork

LEAST_COSINE = 0.999
"""Mean cosine between the features of a runtime and those of torch in single precision."""

MOST_OFF = 0.01
"""Mean difference of their confidences."""


class Runtime(Protocol):
    """What makes the maps of an image: see `Maps`."""

    def __call__(self, image: Tensor) -> Sequence[Tensor]:
        """image: (1, 3, H, W) float32, RGB in [0, 1]."""


class Maps(nn.Module):
    """Some levels of a network on an image (1, 3, H, W) in [0, 1].

    For each level, finest first: features (H', W', C) float32 of unit norm, and confidence
    (H', W') float32; then the encoding.
    """

    def __init__(self, folded: FeatureNetwork, levels: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__()
        self.network: nn.Module = folded
        self.levels, self.dtype = sorted(levels), dtype

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        output = self.network(image.to(self.dtype), self.levels[0])
        maps: list[Tensor] = []
        for level in self.levels:
            features = F.normalize(output.features[level].float(), dim=1)
            maps += [features.permute(0, 2, 3, 1)[0], output.confidence[level][0].float()]
        return (*maps, output.encoding.float())


class TorchRuntime:
    """By torch, in a precision; on a GPU too."""

    def __init__(self, folded: FeatureNetwork, levels: Sequence[int], dtype: torch.dtype) -> None:
        placed = folded.to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._maps = Maps(placed, levels, dtype)

    def __call__(self, image: Tensor) -> Sequence[Tensor]:
        *maps, encoding = self._maps(image.to(memory_format=torch.channels_last))
        # what is sampled lies together
        return [*(part.contiguous() for part in maps), encoding]


def to_onnx(folded: FeatureNetwork, levels: Sequence[int]) -> bytes:
    """The maps of a folded network, for images of any size.

    Raises ImportError where the package onnx is not installed.
    """
    import_module("onnx")
    # torch tells that this exporter has a successor, which takes three packages more
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            torch.no_grad(),
            warnings.catch_warnings(),
        ):
            # that some sizes are constants is what is wanted
            warnings.simplefilter("ignore")
            file = Path(folder) / "maps.onnx"
            torch.onnx.export(
                Maps(folded, levels, torch.float32).eval(),
                (torch.rand(1, 3, 96, 128),),
                str(file),
                input_names=["image"],
                opset_version=17,
                dynamic_axes={"image": {2: "height", 3: "width"}},
                dynamo=False,
            )
            return file.read_bytes()
    finally:
        logger.setLevel(level)


class OnnxRuntime:
    """By ONNX Runtime. Raises ImportError where it is not installed."""

    def __init__(self, folded: FeatureNetwork, levels: Sequence[int]) -> None:
        library: Any = import_module("onnxruntime")
        options = library.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = library.InferenceSession(
            to_onnx(folded, levels), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, image: Tensor) -> Sequence[Tensor]:
        outputs = self._session.run(None, {"image": image.numpy()})
        return [torch.from_numpy(output) for output in outputs]


RUNTIMES: dict[str, Callable[[FeatureNetwork, Sequence[int]], Runtime]] = {
    "torch": lambda network, levels: TorchRuntime(
        fold_padding(fold_batch_norms(network)), levels, torch.float32
    ),
    "torch_bfloat16": lambda network, levels: TorchRuntime(
        fold_padding(fold_batch_norms(network)), levels, torch.bfloat16
    ),
    "onnxruntime": lambda network, levels: OnnxRuntime(fold_batch_norms(network), levels),
}
"""By name; the first is there always, and what the others have to agree with."""


def differs(found: Sequence[Sequence[Tensor]], wanted: Sequence[Sequence[Tensor]]) -> str:
    """Why the maps of some images cannot be taken for those of another runtime, or nothing."""
    reasons = (_differ(*pair) for pair in zip(found, wanted, strict=True))
    return next(filter(None, reasons), "")


def _differ(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> str:
    if [part.shape for part in found] != [part.shape for part in wanted]:
        return "its maps have other sizes"
    for number, (mine, other) in enumerate(zip(found, wanted, strict=True)):
        if number == len(found) - 1:
            cosine = float(F.cosine_similarity(mine.flatten(), other.flatten(), dim=0))
        elif number % 2 == 0:
            cosine = float((mine * other).sum(-1).mean())
        else:
            off = float((mine - other).abs().mean())
            if not off <= MOST_OFF:
                return f"its confidences are {off:.3f} off"
            continue
        if not cosine >= LEAST_COSINE:
            return f"its features have a cosine of {cosine:.4f} with torch's"
    return ""
