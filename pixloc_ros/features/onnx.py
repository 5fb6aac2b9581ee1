"""A network as an ONNX file, for runtimes other than torch."""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from pixloc_ros.errors import InputError
from pixloc_ros.features.folding import fold_batch_norms
from pixloc_ros.features.network import FeatureNetwork

TOLERANCE = 1e-3
"""Largest difference from torch, relative to the norm of an output, that is let pass."""


class _Flat(nn.Module):
    """The outputs of a network as a tuple, the descriptor last."""

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__()
        self.network = fold_batch_norms(network)
        self.original = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.network(images)
        descriptor = self.original.describe(output.encoding)
        return (*output.features, *output.confidence, descriptor)


def output_names(network: FeatureNetwork) -> list[str]:
    """features_0 and confidence_0 are the finest level."""
    levels = range(len(network.strides))
    return [
        *(f"features_{i}" for i in levels),
        *(f"confidence_{i}" for i in levels),
        "descriptor",
    ]


def export_onnx(
    network: FeatureNetwork, output: str | os.PathLike[str], width: int, height: int
) -> float:
    """Write the network for images (1, 3, height, width), RGB in [0, 1], and run what was written.

    Features are not normalized, as the network's are not. Returns the largest difference from
    torch, relative to the norm of an output. Raises InputError where ONNX is not installed, the
    size is too small, or the file does not say what the network says; then there is no file.
    """
    try:
        import_module("onnx")
        runtime = import_module("onnxruntime")
    except ImportError as error:
        raise InputError(f"export needs ONNX: pip install onnx onnxruntime ({error})") from None
    if min(width, height) < 32:
        raise InputError(f"images of {width} x {height} pixels: at least 32 a side")
    output = Path(output)
    partial = output.with_name(output.name + ".part")
    flat = _Flat(network.cpu().eval()).eval()
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    names = output_names(network)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # that sizes are constants is what is wanted
            warnings.simplefilter("ignore")
            torch.onnx.export(
                flat,
                (images,),
                str(partial),
                input_names=["images"],
                output_names=names,
                opset_version=17,
                dynamo=False,
            )
            wanted = flat(images)
        session = runtime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
        found = session.run(names, {"images": images.numpy()})
        worst = max(
            float((torch.from_numpy(a) - b).norm() / b.norm())
            for a, b in zip(found, wanted, strict=True)
        )
        if not worst < TOLERANCE:
            raise InputError(f"{output}: differs from torch by {worst:.2g}, it is not kept")
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return worst
