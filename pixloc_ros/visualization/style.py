"""What all pictures share: colours that the colour-blind tell apart, sizes, file formats."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pixloc_ros.errors import InputError

FORMATS = (".png", ".svg", ".pdf")

GREEN, ORANGE, VERMILION = "#009e73", "#e69f00", "#d55e00"
BLUE, SKY, PURPLE, GRAY = "#0072b2", "#56b4e9", "#cc79a7", "#8c8c8c"
CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, "#000000")
"""Okabe and Ito's palette."""

_SETTINGS: Any = {
    "axes.prop_cycle": f"cycler('color', {list(CYCLE)})",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    # the same file from the same numbers
    "svg.hashsalt": "pixloc_ros",
}


_NO_METADATA: Any = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def new_figure(width: float, height: float) -> Figure:
    """Of a size in inches, with no window behind it."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(figure: Figure, rows: int = 1, columns: int = 1, **more: Any) -> list[Axes]:
    """Axes of a figure, row by row."""
    with rc_context(_SETTINGS):
        return list(figure.subplots(rows, columns, squeeze=False, **more).flat)


def show(axes: Axes, image: np.ndarray, title: str) -> None:
    """An RGB image without ticks."""
    axes.imshow(image, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title)


def require_format(output: str | os.PathLike[str]) -> None:
    """Raise InputError for a name that is none of a PNG, SVG or PDF."""
    if Path(output).suffix.lower() not in FORMATS:
        raise InputError(f"{output}: a plot is a .png, .svg or .pdf")


def save(figure: Figure, output: str | os.PathLike[str]) -> None:
    """Write a figure; raises InputError as `require_format`, or where it cannot be written."""
    require_format(output)
    try:
        with rc_context(_SETTINGS):
            figure.savefig(output, metadata=_NO_METADATA if _is_svg(output) else None)
    except OSError as error:
        raise InputError(f"{output}: {error.strerror or error}") from None


def as_svg(figure: Figure) -> str:
    """A figure as text."""
    buffer = io.StringIO()
    with rc_context(_SETTINGS):
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    return buffer.getvalue()


def _is_svg(output: str | os.PathLike[str]) -> bool:
    return Path(output).suffix.lower() == ".svg"


def heat(values: np.ndarray) -> np.ndarray:
    """RGB uint8 (..., 3) of values in [0, 1], dark blue to yellow."""
    return (255 * colormaps["cividis"](np.clip(values, 0, 1))[..., :3]).astype(np.uint8)
