"""Named tensors in one, as one copy to or from a device is faster than many."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Fields = Mapping[str, tuple[int, ...]]
"""Names and shapes, in their order. () is one number."""


def pack(fields: Fields, values: Mapping[str, Tensor]) -> Tensor:
    """One tensor (..., n), single precision, of values (..., *shape), for `unpack`.

    All values have the same dimensions in front, or none. Raises ValueError for a missing value,
    one that is not a field, or one of another shape.
    """
    if values.keys() != fields.keys():
        raise ValueError(f"fields {list(fields)}, values {list(values)}")
    flat = []
    for name, shape in fields.items():
        front = values[name].ndim - len(shape)
        if values[name].shape[front:] != shape:
            raise ValueError(f"{name}: {tuple(values[name].shape)} does not end in {shape}")
        flat.append(values[name].reshape(*values[name].shape[:front], -1).float())
    return torch.cat(flat, -1)


def unpack(fields: Fields, packed: Tensor) -> dict[str, Tensor]:
    """The values (..., *shape) of a tensor (..., n) that `pack` made."""
    parts = packed.split([math.prod(shape) for shape in fields.values()], -1)
    return {
        name: part.reshape(*part.shape[:-1], *shape)
        for (name, shape), part in zip(fields.items(), parts, strict=True)
    }
