"""The run that the node keeps while it works, where it is asked to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pixloc_ros.errors import InputError
from pixloc_ros.localization import LocalizationResult, Prior, RunError, RunWriter, View
from pixloc_ros.ros.serving import Serving


def _unused(path: Path) -> Path:
    """The path, or with a number where there is such a file: a recording is never lost."""
    number, candidate = 1, path
    while candidate.exists():
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate


class Recording:
    """Keeps answers with what they rest on. say: told what goes wrong; nothing is raised then.

    path: empty for none. Raises InputError where it cannot be written, or there are several maps.
    """

    def __init__(self, path: str, serving: Serving, say: Callable[[str], object]) -> None:
        self._say = say
        sites = serving.atlas.sites
        if path and len(sites) > 1:
            raise InputError(f"parameter record: {serving.path} has {len(sites)} maps, not one")
        localizer = serving.atlas.site.localizer
        self._writer = RunWriter(_unused(Path(path)), localizer.map) if path else None
        localizer.tracing = self._writer is not None

    @property
    def path(self) -> Path | None:
        return None if self._writer is None else self._writer.path

    def add(
        self,
        stamp: float,
        views: Sequence[View],
        prior: Prior | None,
        result: LocalizationResult,
    ) -> None:
        if self._writer is None:
            return
        try:
            self._writer.add(f"{stamp:.6f}", stamp, views, prior, result)
        except RunError as error:
            self._say(f"recording ends: {error}")
            self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
