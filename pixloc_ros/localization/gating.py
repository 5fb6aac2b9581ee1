"""Whether to believe an aligned pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pixloc_ros.errors import require_range
from pixloc_ros.localization.result import InlierStatistics
from pixloc_ros.mapping import ResidualStatistics
from pixloc_ros.mapping.schema import QUANTILES

SURE_FIT = 0.6
"""Fit of an answer, see `InlierStatistics`, that is more than a pose needs to be believed: from it
on, one image alone says something of the points of the map, or of where a robot is whose place was
known vaguely only."""


@dataclass
class GateOptions:
    """A pose is refused below these, or above those that are called max.

    min_points: visible points. min_visible: share of the compared points inside the image.
    min_fit: inlier share on a scale where 0 is chance and 1 is what two references of the map
    reach with each other. matched_fit: the same for a pose that at least `matches` matches
    agree on, or with which `patches` patches agree, min_patch_share of those that were looked
    for: evidence of its own where they lie all over the image. unpatched_fit: the same where
    patches were looked for and too few agree, for matches that are spread twice as wide.
    min_spread: of matches that are to be such evidence, and of the patches that agree with any
    pose; min_spread and max_view_deg: see `InlierStatistics`. picture_share, picture_spread,
    picture_visible: where less of all three is found than this, the image shows a picture of the
    place: share of the patches, their spread, and visible points. min_evenness: of images in which
    no patch is found: blur takes details everywhere alike. max_shift_px: way of the points
    from the level before the finest. max_condition: condition number of the scaled Hessian.
    ambiguity: share of the inliers with which another hypothesis, elsewhere, makes the answer
    ambiguous.
    """

    min_points: int = 30
    min_visible: float = 0.2
    min_fit: float = 0.4
    matched_fit: float = 0.1
    matches: int = 40
    unpatched_fit: float = 0.15
    patches: int = 40
    min_patch_share: float = 0.2
    min_spread: float = 1.6
    picture_share: float = 0.3
    picture_spread: float = 2.2
    picture_visible: float = 0.9
    min_evenness: float = 0.7
    max_view_deg: float = 50.0
    max_shift_px: float = 10.0
    max_condition: float = 1e4
    ambiguity: float = 0.9

    def __post_init__(self) -> None:
        require_range(self, 6, 100_000, "min_points")
        require_range(self, 0, 1, "min_visible", "min_fit", "matched_fit", "ambiguity")
        require_range(self, 0, 1, "min_patch_share", "unpatched_fit")
        require_range(self, 0, 1, "picture_share", "picture_visible", "min_evenness")
        require_range(self, 0, 16, "min_spread", "picture_spread")
        require_range(self, 0, 180, "max_view_deg")
        require_range(self, 0, 1e6, "max_shift_px")
        require_range(self, 1, 1e12, "max_condition")
        require_range(self, 6, 100_000, "matches", "patches")


@dataclass(frozen=True)
class InlierModel:
    """What separates matching from unrelated residuals at one level of a map.

    threshold: squared residual. matching, unrelated: share of such pairs below it.
    """

    threshold: float
    matching: float
    unrelated: float

    @classmethod
    def of(cls, statistics: ResidualStatistics) -> InlierModel:
        """The threshold with the largest gap between both shares (Youden's index)."""
        if not np.isfinite(statistics.matching).all():
            # no point of the map is seen twice: halfway to the distance of unrelated features
            return cls(1.0, 1.0, 0.0)
        candidates = np.unique(statistics.matching)

        def below(quantiles: np.ndarray) -> np.ndarray:
            return np.interp(candidates, quantiles, QUANTILES, left=0.0, right=1.0)

        matching, unrelated = below(statistics.matching), below(statistics.unrelated)
        best = int(np.argmax(matching - unrelated))
        return cls(float(candidates[best]), float(matching[best]), float(unrelated[best]))

    def fit(self, inliers: float) -> float:
        """Share of inliers rescaled: 0 at chance, 1 at what references reach with each other."""
        return (inliers - self.unrelated) / max(self.matching - self.unrelated, 1e-6)


def gate(statistics: InlierStatistics, covariance: Tensor, options: GateOptions) -> str:
    """The reason to refuse a pose, or an empty string."""
    visible = round(statistics.points * statistics.visible)
    if visible < options.min_points:
        return f"only {visible} points visible, {options.min_points} are needed"
    if statistics.visible < options.min_visible:
        needed = f"{options.min_visible:.0%} are needed"
        return f"only {statistics.visible:.0%} of the points visible, {needed}"
    fit = statistics.fit
    many, wide = statistics.matches >= options.matches, statistics.spread >= options.min_spread
    patched = (
        statistics.patches >= options.patches
        and statistics.patch_share >= options.min_patch_share
        and statistics.patch_spread >= options.min_spread
    )
    unpatched = statistics.patches_sought > 0 and not statistics.patches
    least = options.min_fit
    if unpatched:
        # the image is blurred, all of it, or not of this place
        wide = statistics.spread >= 2 * options.min_spread
        least = options.unpatched_fit if many and wide else options.min_fit
    elif (many and wide) or patched:
        least = options.matched_fit
    if fit < least:
        narrow = "" if wide or not many else ", as the matches lie in one part of the image"
        return (
            f"{statistics.inliers:.0%} inliers, a fit of {fit:.2f} between chance and the "
            f"map's own; {least:.2f} is needed{narrow}"
        )
    # whatever else fits: an image in pieces shows the place in one of them
    if statistics.patches and statistics.patch_spread < options.min_spread:
        return (
            f"{statistics.patches} patches agree, but all in one part of the image, as where it "
            f"shows a picture of the place (spread {statistics.patch_spread:.1f}, "
            f"{options.min_spread:g} is needed)"
        )
    if (
        statistics.patches
        and statistics.patch_share < options.picture_share
        and statistics.patch_spread < options.picture_spread
        and statistics.visible < options.picture_visible
    ):
        return (
            f"{statistics.patch_share:.0%} of the patches agree, in a small part of the image "
            f"(spread {statistics.patch_spread:.1f}), and {1 - statistics.visible:.0%} of the "
            "points lie outside of it, as where it shows a picture of the place"
        )
    if unpatched and statistics.evenness < options.min_evenness:
        return (
            f"no patch is found, and inliers lie in parts of the image only (evenness "
            f"{statistics.evenness:.2f}, {options.min_evenness:g} is needed)"
        )
    if statistics.view_deg > options.max_view_deg:
        return (
            f"the points are seen {statistics.view_deg:.0f} deg from where the references saw "
            "them from"
        )
    if statistics.shift_px > options.max_shift_px:
        return f"the finest level moved the points by {statistics.shift_px:.0f} pixels"
    if not bool(covariance.isfinite().all()) or statistics.condition > options.max_condition:
        return f"the pose is not determined (condition number {statistics.condition:.1e})"
    return ""
