"""Which references of a map a query is matched or aligned with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pixloc_ros.geometry import Pose
from pixloc_ros.localization.result import Refusal, Status
from pixloc_ros.localization.views import Query
from pixloc_ros.mapping import PixMap
from pixloc_ros.retrieval import Index, VisibilityIndex, open_index

MOST_SESSIONS = 4
"""Times as many references as are used, at most, that are looked at in maps of several sessions.
"""


@dataclass(frozen=True)
class Candidates:
    """Choice of references, by their numbers in the map.

    count: how many are chosen, at most. without: those that are never chosen. weights: (R,) in
    (0, 1], None where all are alike: one of half the weight of others has to be found at half
    their place in the order to be chosen before them.
    """

    pixmap: PixMap
    index: Index
    visibility: VisibilityIndex
    count: int
    without: frozenset[int] = frozenset()
    weights: np.ndarray | None = None

    @classmethod
    def of(cls, pixmap: PixMap, count: int) -> Candidates:
        """All references of a map are candidates."""
        return cls(pixmap, open_index(pixmap), VisibilityIndex(pixmap), count)

    def leaving_out(self, references: Collection[int]) -> Candidates:
        """The same without some references."""
        return replace(self, without=frozenset(references))

    def visible(self, query: Query, rig_from_map: Pose) -> list[int]:
        """References that cover what a view sees from a pose of the rig."""
        pose = query.cam_from_rig @ rig_from_map
        return self._chosen(self.visibility.visible_from(pose, query.camera, self._wanted))

    def retrieved(
        self, query: Query, names: Sequence[str] | None, expected: Sequence[int]
    ) -> list[int]:
        """References that look like a view, beside some that are expected to show it.

        names: what is retrieved instead, best first. Raises Refusal where the map has none of
        them.
        """
        found = self._look_alike(query) if names is None else self._named(names)
        return list(dict.fromkeys([*expected[: (self.count + 1) // 2], *found]))[: self.count]

    def _look_alike(self, query: Query) -> list[int]:
        descriptor = self.pixmap.describe(query.pyramid)
        found, _ = self.index.search(descriptor, self._wanted)
        return self._chosen(found)

    def _named(self, names: Sequence[str]) -> list[int]:
        numbers = [self.pixmap.names.find(name) for name in names]
        known = [number for number in numbers if number is not None]
        if not known:
            raise Refusal(Status.NO_REFERENCE, "none of the given references is in the map")
        return known[: self.count]

    @property
    def _wanted(self) -> int:
        """References that are looked at for those that are chosen."""
        sessions = 1 if self.weights is None else len(self.pixmap.sessions.every)
        return min(sessions, MOST_SESSIONS) * self.count + len(self.without)

    def _chosen(self, references: Sequence[int]) -> list[int]:
        """Those of some references, best first, that are used."""
        allowed = [r for r in references if r not in self.without]
        if self.weights is not None:
            place = np.arange(1, len(allowed) + 1) / self.weights[allowed]
            allowed = [allowed[i] for i in np.argsort(place, kind="stable")]
        return allowed[: self.count]
