"""What a benchmark is run with, under the names of the original project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pixloc_ros.datasets.benchmarks import DatasetLayout
from pixloc_ros.errors import InputError, require_range
from pixloc_ros.features import FeatureNetwork, PyramidLevel, default_levels
from pixloc_ros.localization import LocalizerOptions
from pixloc_ros.options import override

STARTS = ("matches", "retrieval", "approximation", "priors", "poses")
SHIPPED = "shipped"
PROCEDURES = ("robust", "published")
SELECTIONS = ("all", "inliers")


@dataclass
class RefinementOptions:
    """num_dbs: references of a query, 0 for the localizer's own number. multiscale: divisors of
    the network's largest image, coarse to fine; empty for the network's own levels.
    do_pose_approximation: start at the mean of the retrieved poses, weighted by similarity.
    filter_covisibility: of the references keep the most that are linked by shared points, as pose
    approximation always does. do_inlier_ranking: take the references first that hloc matched
    most inliers with.

    The others are of the published procedure only. point_selection: `all` that the references
    see, or hloc's `inliers`. average_observations: of a point by several references.
    layer_indices: levels of the network, empty for all. min_track_length, min_points_opt: fewest
    references of a point, and points. min_matches_db: inliers that a reference must have more of
    where hloc's rank them.
    """

    num_dbs: int = 0
    multiscale: list[int] = field(default_factory=list)
    do_pose_approximation: bool = False
    filter_covisibility: bool = False
    do_inlier_ranking: bool = False
    point_selection: str = "all"
    average_observations: bool = False
    layer_indices: list[int] = field(default_factory=list)
    min_track_length: int = 3
    min_points_opt: int = 10
    min_matches_db: int = 10

    def __post_init__(self) -> None:
        require_range(self, 0, 1000, "num_dbs")
        require_range(self, 1, 1000, "min_track_length")
        require_range(self, 0, 1_000_000, "min_points_opt", "min_matches_db")
        if any(not 1 <= scale <= 64 for scale in self.multiscale):
            raise InputError(f"multiscale {self.multiscale}: divisors from 1 to 64")
        if self.point_selection not in SELECTIONS:
            raise InputError(
                f"point_selection {self.point_selection!r}: one of {', '.join(SELECTIONS)}"
            )


@dataclass
class Optimizer:
    """num_iters: most iterations at a level, 0 for the localizer's own number. pad: cells that
    points must keep from the border, in the published procedure.
    """

    num_iters: int = 0
    pad: int = 2

    def __post_init__(self) -> None:
        require_range(self, 0, 10_000, "num_iters")
        require_range(self, 0, 100, "pad")


@dataclass
class Preprocessing:
    """resize: longest side of an image in pixels, in the published procedure."""

    resize: int = 1024

    def __post_init__(self) -> None:
        require_range(self, 32, 100_000, "resize")


@dataclass
class Features:
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


@dataclass
class BenchmarkOptions:
    """procedure: `robust` is this project's localizer on a map, `published` is PixLoc as its
    authors ran it. experiment: weights, a file or the name of an experiment of the original
    project under `outputs/training`, or `shipped`. start: see `STARTS`. The
    others under the names of the original project, and `localizer` for everything of ours.
    """

    procedure: str = "robust"
    experiment: str = SHIPPED
    start: str = "matches"
    features: Features = field(default_factory=Features)
    refinement: RefinementOptions = field(default_factory=RefinementOptions)
    optimizer: Optimizer = field(default_factory=Optimizer)
    localizer: LocalizerOptions = field(default_factory=LocalizerOptions)

    def __post_init__(self) -> None:
        if self.procedure not in PROCEDURES:
            raise InputError(f"procedure {self.procedure!r}: one of {', '.join(PROCEDURES)}")
        if self.start not in STARTS:
            raise InputError(f"start {self.start!r}: one of {', '.join(STARTS)}")
        if self.refinement.do_pose_approximation:
            self.start = "approximation"
        if self.procedure == "published":
            self._require_published()
        else:
            self._require_robust()

    def _require_published(self) -> None:
        if self.start == "matches":
            raise InputError("procedure=published does not match: start=retrieval, or another")
        if not self.refinement.num_dbs or not self.optimizer.num_iters:
            raise InputError("procedure=published needs refinement.num_dbs, optimizer.num_iters")
        if self.localizer != LocalizerOptions():
            raise InputError("localizer.*: settings of procedure=robust")

    def _require_robust(self) -> None:
        plain = RefinementOptions()
        changed = [
            f"refinement.{name}"
            for name in (
                *("point_selection", "average_observations", "layer_indices"),
                *("min_track_length", "min_points_opt", "min_matches_db"),
            )
            if getattr(self.refinement, name) != getattr(plain, name)
        ]
        if self.optimizer.pad != Optimizer().pad:
            changed.append("optimizer.pad")
        if self.features != Features():
            changed.append("features.preprocessing.resize")
        if changed:
            raise InputError(f"{changed[0]}: a setting of procedure=published")

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
    """The file of an experiment; None for the shipped network. Raises InputError."""
    if experiment == SHIPPED:
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


def published_settings(layout: DatasetLayout, from_poses: bool) -> list[str]:
    """What PixLoc's authors ran a benchmark with, as overrides of `BenchmarkOptions`."""
    own = layout.from_poses if from_poses else layout.published
    return ["optimizer.num_iters=100", "start=retrieval", *own]


def options_of(layout: DatasetLayout, overrides: Sequence[str]) -> BenchmarkOptions:
    """Of `key=value` overrides, over what was published where that is to be run.

    Raises InputError.
    """
    published = [entry for entry in overrides if entry.startswith("procedure=")]
    if published[-1:] != ["procedure=published"]:
        return override(BenchmarkOptions(), overrides)
    starts = [entry for entry in overrides if entry.startswith("start=")]
    settings = published_settings(layout, starts[-1:] == ["start=poses"])
    if starts:  # instead of the start that was published
        settings = [s for s in settings if s != "refinement.do_pose_approximation=true"]
    return override(BenchmarkOptions(), [*settings, *overrides])
