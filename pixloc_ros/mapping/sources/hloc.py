"""Local features and matches that hloc computed, instead of SIFT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pixloc_ros.datasets.hloc_features import read_keypoints, read_matches
from pixloc_ros.identity import Identity, identity_of
from pixloc_ros.mapping.structure import LocalFeatures


@dataclass(frozen=True)
class HlocFeatures:
    """Files of keypoints and of their matches."""

    features: Path
    matches: Path

    def read(self, names: Sequence[str]) -> LocalFeatures:
        """Of these images. Raises ListError."""
        keypoints = read_keypoints(self.features, names)
        return LocalFeatures(keypoints, read_matches(self.matches, keypoints))

    def identity(self) -> list[Identity]:
        return [identity_of(self.features), identity_of(self.matches)]
