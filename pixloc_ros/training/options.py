"""Everything that a training configuration says."""

from __future__ import annotations

from dataclasses import dataclass, field

from pixloc_ros.errors import InputError, require_range
from pixloc_ros.training.batch import StartOptions
from pixloc_ros.training.image_pairs import ImagePairOptions
from pixloc_ros.training.model import LossOptions
from pixloc_ros.training.synthetic import SyntheticOptions

SOURCES = ("synthetic", "pairs")


@dataclass
class OptimizerOptions:
    """AdamW with a linear warm-up and a cosine to zero.

    rate: learning rate; encoder and damping: factors on it for those parameters. warm_up:
    steps. clip: largest norm of the gradient.
    """

    rate: float = 4e-4
    encoder: float = 0.4
    damping: float = 50.0
    weight_decay: float = 0.01
    warm_up: int = 100
    clip: float = 1.0

    def __post_init__(self) -> None:
        require_range(self, 0, 1, "rate", "weight_decay")
        require_range(self, 0, 1e4, "encoder", "damping")
        require_range(self, 0, 1e7, "warm_up")
        require_range(self, 1e-6, 1e6, "clip")


@dataclass
class ValidationOptions:
    """Held-out data. every: steps between validations. batches: of each.

    photographs: share of the photographs that only validation sees. seed: of its scenes.
    """

    every: int = 250
    batches: int = 4
    photographs: float = 0.1
    seed: int = 1_000_003

    def __post_init__(self) -> None:
        require_range(self, 1, 1e7, "every", "batches")
        require_range(self, 0.01, 0.5, "photographs")


@dataclass
class TrainingOptions:
    """A training run.

    network: architecture. weights: checkpoint to start from, `default` for the shipped one;
    empty starts from the encoder trained on ImageNet. steps: of the optimizer. source:
    `synthetic` scenes or image `pairs`. workers: processes that prepare batches ahead, 0 for
    none. log_every, save_every: steps.
    """

    network: str = "compact"
    weights: str = ""
    seed: int = 0
    steps: int = 1500
    source: str = "synthetic"
    synthetic: SyntheticOptions = field(default_factory=SyntheticOptions)
    pairs: ImagePairOptions = field(default_factory=ImagePairOptions)
    start: StartOptions = field(default_factory=StartOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    validation: ValidationOptions = field(default_factory=ValidationOptions)
    workers: int = 0
    log_every: int = 10
    save_every: int = 100

    def __post_init__(self) -> None:
        require_range(self, 1, 1e7, "steps", "log_every", "save_every")
        require_range(self, 0, 256, "workers")
        if self.source not in SOURCES:
            raise InputError(f"source: {self.source!r}; known: {', '.join(SOURCES)}")
