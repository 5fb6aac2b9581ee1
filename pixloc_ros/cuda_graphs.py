"""Work that a GPU does again and again, recorded once and started with one call."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

log = logging.getLogger(__name__)

KEPT = 8
"""Recordings that are kept: one for each set of shapes."""

Function = Callable[..., Sequence[Tensor]]


@dataclass
class _CapturedGraph:
    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: Sequence[Tensor]


class GraphedCallable:
    """Calls one function of tensors; on a GPU it is captured as a graph and replayed.

    The function must not wait for the device, nor decide anything by what tensors hold.
    On the CPU it is just called.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._recordings: OrderedDict[Hashable, _CapturedGraph] = OrderedDict()
        self._usable = device.type == "cuda"

    def __call__(
        self, function: Function, inputs: Sequence[Tensor], *constants: Hashable
    ) -> Sequence[Tensor]:
        """The function of the inputs, moved to the device, and of constants.

        It is always the same one, but not kept: whoever owns it also owns this. Answers of
        a GPU hold until the next call with inputs of the same shapes.
        """
        if not self._usable:
            return function(*(t.to(self._device) for t in inputs), *constants)
        key = (constants, tuple((t.shape, t.dtype, t.stride()) for t in inputs))
        if key not in self._recordings:
            try:
                self._recordings[key] = self._record(function, inputs, constants)
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:
                log.warning("no CUDA graphs, every call starts its own kernels: %s", error)
                self._usable = False
                return self(function, inputs, *constants)
        self._recordings.move_to_end(key)
        while len(self._recordings) > KEPT:
            self._recordings.popitem(last=False)
        recording = self._recordings[key]
        for own, given in zip(recording.inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        recording.graph.replay()
        return recording.outputs

    def _record(
        self, function: Function, inputs: Sequence[Tensor], constants: Sequence[Hashable]
    ) -> _CapturedGraph:
        own = [
            torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=self._device).copy_(t)
            for t in inputs
        ]
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        graph = torch.cuda.CUDAGraph()
        with torch.backends.cudnn.flags(benchmark=True):
            # compilation and the choice of algorithms happen before the recording
            with torch.cuda.stream(stream):
                for _ in range(2):
                    function(*own, *constants)
            torch.cuda.current_stream(self._device).wait_stream(stream)
            with torch.cuda.graph(graph):
                outputs = function(*own, *constants)
        return _CapturedGraph(graph, own, outputs)
