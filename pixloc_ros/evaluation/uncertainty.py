"""Whether claimed covariances are true, and the factors that make them so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import chdtri
from torch import Tensor

from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Pose
from pixloc_ros.geometry.so3 import so3_log
from pixloc_ros.localization import LocalizationResult, Localizer

LEVELS = (0.5, 0.9, 0.95)
"""Probabilities of the ellipsoids whose coverage is reported."""


def _quantile(level: float) -> float:
    """Of the chi-squared distribution with six degrees of freedom."""
    return float(chdtri(6, 1 - level))


@dataclass(frozen=True)
class Claims:
    """Errors of Q answers and what was claimed of them.

    errors: (Q, 6) left perturbations (translation, rotation) in the camera frame that lead from
    the true pose to the answer. covariances: (Q, 6, 6).
    """

    errors: np.ndarray
    covariances: np.ndarray

    @classmethod
    def of(cls, answers: Sequence[tuple[Pose, Tensor, Pose]]) -> Claims:
        """From (estimated, covariance, true) cam_from_map poses."""
        errors = [_error(estimate, truth) for estimate, _, truth in answers]
        covariances = [np.asarray(covariance) for _, covariance, _ in answers]
        return cls(np.array(errors).reshape(-1, 6), np.array(covariances).reshape(-1, 6, 6))

    @classmethod
    def of_patches(cls, answers: Sequence[tuple[LocalizationResult, Pose]]) -> Claims:
        """Of the believed answers, with the true poses, whose covariance is that of patches."""
        return cls.of(
            [
                (answer.cam_from_map, answer.covariance, truth)
                for answer, truth in answers
                if answer.ok and answer.statistics.patches
            ]
        )

    def __len__(self) -> int:
        return len(self.errors)

    def scaled(self, translation: float, rotation: float) -> Claims:
        """The same errors, standard deviations multiplied by these factors."""
        factor = np.repeat([translation, rotation], 3)
        return replace(self, covariances=self.covariances * np.outer(factor, factor))

    def nees(self) -> np.ndarray:
        """Normalized estimation error squared (Q,): 6 in the mean when the claims are true.

        Bar-Shalom, Li, Kirubarajan, "Estimation with applications to tracking and navigation"
        (2001), section 5.4.
        """
        solved = np.linalg.solve(self.covariances, self.errors[..., None])[..., 0]
        return (self.errors * solved).sum(-1)

    def coverage(self) -> tuple[float, ...]:
        """Share of the errors inside the ellipsoids that should hold `LEVELS` of them."""
        nees = self.nees()
        return tuple(float(np.mean(nees <= _quantile(level))) for level in LEVELS)


def _error(estimate: Pose, truth: Pose) -> np.ndarray:
    away = estimate @ truth.inverse()
    return torch.cat([away.translation, so3_log(away.rotation)]).numpy()


def as_lines(claims: Claims) -> list[str]:
    """What `evaluate --nees` prints."""
    nees, covered = claims.nees(), claims.coverage()
    told = ", ".join(f"{c:.1%} (of {p:.0%})" for p, c in zip(LEVELS, covered, strict=True))
    return [
        f"answers with a covariance: {len(claims)}",
        f"NEES: mean {nees.mean():.2f}, median {np.median(nees):.2f} "
        f"(true claims: 6.00, {_quantile(0.5):.2f})",
        f"inside the ellipsoids: {told}",
    ]


FEWEST = 10
"""Answers that are needed to say anything."""


def fit(claims: Claims) -> tuple[float, float]:
    """Factors on the standard deviations of translation and rotation, by maximum likelihood, and
    not below those with which the ellipsoid that should hold 95 % of the errors holds them.

    Raises InputError when there are too few to say anything.
    """
    if len(claims) < FEWEST:
        raise InputError(f"too few answers to calibrate with: {len(claims)}, {FEWEST} are needed")
    factors = _likeliest(claims)
    outer = np.quantile(claims.scaled(*factors).nees(), LEVELS[-1]) / _quantile(LEVELS[-1])
    translation, rotation = (factors * max(1.0, outer) ** 0.5).tolist()
    if not (math.isfinite(translation) and math.isfinite(rotation)):
        raise InputError("the errors are not finite: nothing can be calibrated with them")
    return translation, rotation


def _likeliest(claims: Claims) -> np.ndarray:
    def surprise(logs: np.ndarray) -> float:
        """Mean negative log-likelihood, without what does not depend on the factors."""
        return float(0.5 * claims.scaled(*np.exp(logs)).nees().mean() + 3 * logs.sum())

    # takes as long to import as numpy, and few commands come here
    from scipy.optimize import minimize

    found = minimize(surprise, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-4})
    return np.exp(found.x)


def leave_one_out(
    localizer: Localizer,
    read: Callable[[str], np.ndarray],
    gap: int,
    every: int,
    progress: Callable[[], object] = lambda: None,
) -> list[tuple[LocalizationResult, Pose]]:
    """Every `every`-th reference localized without itself and its `gap` neighbours by name."""
    pixmap = localizer.map
    order = sorted(range(len(pixmap)), key=lambda i: pixmap.names[i])
    answers = []
    for place in range(0, len(order), every):
        number = order[place]
        others = localizer.leaving_out(order[max(place - gap, 0) : place + gap + 1])
        camera = pixmap.camera(number)
        result = others.localize(read(pixmap.names[number]), camera)
        answers.append((result, pixmap.pose(number)))
        progress()
    return answers


def claims_of_report(
    report: Mapping[str, object], results: Mapping[str, Pose], truth: Mapping[str, Pose]
) -> Claims:
    """Claims in what `localize --report` wrote. Raises InputError when it holds none."""
    answers = []
    for name, entry in report.items():
        if name not in results or name not in truth or not isinstance(entry, Mapping):
            continue
        covariance = np.array(entry.get("covariance", ()), float)
        if covariance.shape != (6, 6) or not np.isfinite(covariance).all():
            continue
        answers.append((results[name], torch.from_numpy(covariance), truth[name]))
    if not answers:
        raise InputError("no answer in the report has a covariance")
    return Claims.of(answers)
