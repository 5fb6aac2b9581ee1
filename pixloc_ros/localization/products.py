"""Ways to compare every point with every cell, of which a machine takes the fastest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pixloc_ros.fastest import Choice, fastest

LEAST_ALIKE = 0.9
"""Share of the points whose most similar cell is that of single precision."""

Product = Callable[[Tensor, Tensor], Tensor]
"""(N, D) and (M, D) -> similarities (N, M)."""


def _half(known: Tensor, cells: Tensor) -> Tensor:
    return known.half() @ cells.half().T


# numpy's product is not among them: its threads spin, and are not those that a user counted
PRODUCTS: dict[str, Product] = {
    "single": lambda known, cells: known @ cells.T,
    "bfloat16": lambda known, cells: known.bfloat16() @ cells.bfloat16().T,
}


def product_on(device: torch.device) -> Product:
    """What is used before anything was measured."""
    return _half if device.type == "cuda" else PRODUCTS["single"]


def best_columns(scores: Tensor) -> Tensor:
    """Column (N,) of the largest entry of each row of (N, M)."""
    if scores.is_cuda:
        return scores.argmax(1)
    # numpy's is vectorized, torch's is not; the bits of positive halves are ordered as they are
    plain = scores.view(torch.int16) if scores.dtype == torch.bfloat16 else scores
    return torch.from_numpy(plain.numpy().argmax(1))


def choose_product(points: int, cells: int, width: int) -> Choice:
    """The fastest of `PRODUCTS` for so many rows of this width."""
    generator = torch.Generator().manual_seed(0)
    known, seen = (
        torch.nn.functional.normalize(torch.randn(rows, width, generator=generator), dim=-1)
        for rows in (points, cells)
    )
    # as in a map, where every cell looks a little like the others
    known, seen = known + 0.1, seen + 0.1

    def differs(found: Tensor, wanted: Tensor) -> str:
        alike = float((best_columns(found) == best_columns(wanted)).double().mean())
        return "" if alike >= LEAST_ALIKE else f"{100 * alike:.0f} % of its matches are the same"

    return fastest(
        f"{points} x {width} x {cells}",
        {name: lambda p=product: lambda: p(known, seen) for name, product in PRODUCTS.items()},  # type: ignore[misc]
        differs,
    )
