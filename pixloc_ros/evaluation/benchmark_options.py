"""What a benchmark is run with, under the names of the original project."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from pixloc_ros.errors import InputError, require_range
from pixloc_ros.features import FeatureNetwork, PyramidLevel, default_levels
from pixloc_ros.localization import LocalizerOptions

STARTS = ("matches", "retrieval", "approximation", "priors", "poses")


@dataclass
class Refinement:
    """num_dbs: references of a query, 0 for the localizer's own number. multiscale: divisors of
    the network's largest image, coarse to fine; empty for the network's own levels.
    do_pose_approximation: start at the mean of the retrieved poses, weighted by similarity.
    do_inlier_ranking: take the references first that hloc matched most inliers with.
    """

    num_dbs: int = 0
    multiscale: list[int] = field(default_factory=list)
    do_pose_approximation: bool = False
    do_inlier_ranking: bool = False

    def __post_init__(self) -> None:
        require_range(self, 0, 1000, "num_dbs")
        if any(not 1 <= scale <= 64 for scale in self.multiscale):
            raise InputError(f"multiscale {self.multiscale}: divisors from 1 to 64")


@dataclass
class Optimizer:
    """num_iters: most iterations at a level, 0 for the localizer's own number."""

    num_iters: int = 0

    def __post_init__(self) -> None:
        require_range(self, 0, 10_000, "num_iters")


@dataclass
class BenchmarkOptions:
    """experiment: weights, a file or the name of an experiment of the original project under
    `outputs/training`; empty for the default network. start: see `STARTS`. The others under the
    names of the original project, and `localizer` for everything of ours.
    """

    experiment: str = ""
    start: str = "matches"
    refinement: Refinement = field(default_factory=Refinement)
    optimizer: Optimizer = field(default_factory=Optimizer)
    localizer: LocalizerOptions = field(default_factory=LocalizerOptions)

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise InputError(f"start {self.start!r}: one of {', '.join(STARTS)}")
        if self.refinement.do_pose_approximation:
            self.start = "approximation"

    def localizer_options(self) -> LocalizerOptions:
        lm = self.localizer.lm
        if self.optimizer.num_iters:
            lm = replace(lm, iterations=self.optimizer.num_iters)
        references = self.refinement.num_dbs or self.localizer.references
        return replace(self.localizer, lm=lm, references=references)

    def levels(self, network: FeatureNetwork) -> tuple[PyramidLevel, ...]:
        """Of the map and the query."""
        own = default_levels(network)
        if not self.refinement.multiscale:
            return own
        largest = max(level.image_size for level in own)
        numbers = list(dict.fromkeys(level.network_level for level in own))
        return tuple(
            PyramidLevel(largest // scale, number)
            for scale in self.refinement.multiscale
            for number in numbers
        )


def weights_of(experiment: str, training: Path) -> str | None:
    """The file of an experiment; None for the default network. Raises InputError."""
    if not experiment:
        return None
    if Path(experiment).is_file():
        return experiment
    file = training / experiment / "checkpoint_best.tar"
    if not file.is_file():
        raise InputError(
            f"experiment {experiment}: neither a file nor {file}; "
            "`download --select checkpoints` gets the published ones"
        )
    return str(file)
