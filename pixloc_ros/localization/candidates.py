"""Which references of a map a query is matched or aligned with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pixloc_ros.geometry import Pose
from pixloc_ros.localization.result import Refusal, Status
from pixloc_ros.localization.views import Query
from pixloc_ros.mapping import PixMap
from pixloc_ros.retrieval import Index, VisibilityIndex, open_index


@dataclass(frozen=True)
class Candidates:
    """Choice of references, by their numbers in the map.

    count: how many are chosen, at most. without: those that are never chosen.
    """

    pixmap: PixMap
    index: Index
    visibility: VisibilityIndex
    count: int
    without: frozenset[int] = frozenset()

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
        wanted = self.count + len(self.without)
        return self._allowed(self.visibility.visible_from(pose, query.camera, wanted))

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
        found, _ = self.index.search(descriptor, self.count + len(self.without))
        return self._allowed(found)

    def _named(self, names: Sequence[str]) -> list[int]:
        numbers = [self.pixmap.names.find(name) for name in names]
        known = [number for number in numbers if number is not None]
        if not known:
            raise Refusal(Status.NO_REFERENCE, "none of the given references is in the map")
        return known[: self.count]

    def _allowed(self, references: Sequence[int]) -> list[int]:
        return [r for r in references if r not in self.without][: self.count]
