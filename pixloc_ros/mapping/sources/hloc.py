"""Local features and matches that hloc computed, instead of SIFT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pixloc_ros.datasets.hloc_features import read_keypoints, read_matches
from pixloc_ros.identity import Identity, identity_of
from pixloc_ros.left_out import LeftOut
from pixloc_ros.mapping.sfm import LocalFeatures
from pixloc_ros.mapping.sources.source import Work


@dataclass(frozen=True)
class HlocFeatures:
    """Files of keypoints and of their matches."""

    features: Path
    matches: Path

    def read(self, names: Sequence[str], work: Work) -> LocalFeatures:
        """Of these images; those without, and pairs that do not fit, are left out.

        Raises ListError.
        """
        left_out = LeftOut("entry")
        keypoints = read_keypoints(self.features, names, left_out)
        matches = read_matches(self.matches, keypoints, left_out)
        work.say_left_out(left_out)
        return LocalFeatures(keypoints, matches)

    def identity(self) -> list[Identity]:
        return [identity_of(self.features), identity_of(self.matches)]
