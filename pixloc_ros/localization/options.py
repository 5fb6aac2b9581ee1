"""What can be set of a localizer."""

from __future__ import annotations

from dataclasses import dataclass, field

from pixloc_ros.alignment import LMOptions
from pixloc_ros.errors import InputError, require_range
from pixloc_ros.features import RUNTIMES
from pixloc_ros.localization.gating import GateOptions
from pixloc_ros.localization.products import PRODUCTS


@dataclass
class LocalizerOptions:
    """How a query is localized. Angles in degrees, sizes in points.

    runtime, product: what runs the network on a processor (`features.RUNTIMES`), and what compares
    points (`products.PRODUCTS`); auto has `warm_up` take the fastest.

    references: whose points are matched or aligned with. match_points: most points that are
    matched. starts: poses of matches that are aligned. points: observations used for alignment.
    patches: observations whose grey values are looked for at the end; 0 looks for none. turns:
    whether an image that is not found is tried again on its sides and upside down.
    hypotheses: of a vague prior. kernel_alpha, kernel_scale: see
    `geometry.RobustKernel`.
    """

    references: int = 10
    match_points: int = 4000
    starts: int = 2
    hypotheses: int = 4
    points: int = 1200
    patches: int = 4000
    turns: bool = True
    kernel_alpha: float = 0.0
    kernel_scale: float = 0.1
    runtime: str = "auto"
    product: str = "auto"
    lm: LMOptions = field(default_factory=LMOptions)
    gate: GateOptions = field(default_factory=GateOptions)

    def __post_init__(self) -> None:
        require_range(self, 1, 1000, "references", "starts", "hypotheses")
        require_range(self, 10, 100_000, "match_points", "points")
        require_range(self, 0, 100_000, "patches")
        require_range(self, -1000, 2, "kernel_alpha")
        require_range(self, 1e-6, 1e6, "kernel_scale")
        for name, known in (("runtime", RUNTIMES), ("product", PRODUCTS)):
            value = getattr(self, name)
            if value not in ("auto", *known):
                raise InputError(f"{name} {value!r}: one of {', '.join(('auto', *known))}")
