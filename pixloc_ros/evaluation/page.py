"""Pose errors as a page, `page.html.jinja`."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
import numpy as np

from pixloc_ros.evaluation.metrics import PoseErrors
from pixloc_ros.evaluation.report import HEADINGS, cells, rows_of


@dataclass(frozen=True)
class Exhibit:
    """A query that is worth a look. picture: JPEG, or None where there is none."""

    name: str
    reason: str
    picture: bytes | None


def as_html(
    errors: PoseErrors,
    title: str,
    curves: str = "",
    exhibits: Sequence[Exhibit] = (),
    text: str = "",
) -> str:
    """One self-contained page: the table, curves, queries with pictures, every query.

    curves: SVG. exhibits: worst first. text: what else was measured, line by line.
    """

    def error(i: int) -> str:
        if not math.isfinite(errors.metres[i]):
            return "no pose"
        return f"{errors.metres[i]:.4f} m, {errors.degrees[i]:.3f} deg"

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pixloc_ros.evaluation", "."),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    number = {name: i for i, name in enumerate(errors.names)}
    order = np.argsort(-errors.metres, kind="stable")
    return environment.get_template("page.html.jinja").render(
        title=title,
        headings=HEADINGS,
        rows=[cells(*row) for row in rows_of(errors)],
        text=text,
        # an XML declaration has no place inside of a page
        curves=curves[curves.index("<svg") :] if curves else "",
        exhibits=[
            (
                exhibit,
                error(number[exhibit.name]),
                base64.b64encode(exhibit.picture or b"").decode(),
            )
            for exhibit in exhibits
        ],
        queries=[(errors.names[i], errors.metres[i], errors.degrees[i]) for i in order],
    )
