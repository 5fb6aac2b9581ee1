"""Which implementation of the inner loop runs on a device."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType

import torch

log = logging.getLogger(__name__)

OLDEST = (7, 5)
"""Compute capability from which the kernels for GPUs are compiled."""


def is_cold(device: torch.device) -> bool:
    """Whether the kernels of a device must be compiled before they run, which takes long."""
    try:
        if device.type != "cpu":
            return False
        from pixloc_ros.alignment.kernels import compiled
    except (ImportError, RuntimeError):
        return False
    return not compiled.is_kept()


@cache
def fused(device: torch.device) -> ModuleType | None:
    """The module with the fused loop for a device, None where plain torch has to do.

    Says once why there is none.
    """
    try:
        if device.type == "cuda":
            capability = torch.cuda.get_device_capability(device)
            if capability < OLDEST:
                found, least = (".".join(map(str, c)) for c in (capability, OLDEST))
                raise ImportError(f"compute capability {found}, at least {least} is needed")
            from pixloc_ros.alignment.kernels import cuda

            return cuda
        if device.type == "cpu":
            from pixloc_ros.alignment.kernels import compiled, cpu

            compiled.compile_apart()
            return cpu
        raise ImportError("no kernels for such a device")
    except (ImportError, RuntimeError) as error:  # numba raises the latter without a cache folder
        log.warning("alignment on %s runs in plain torch, slower: %s", device, error)
        return None
