"""When and how the references of a map were taken: by day, by night, in winter."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import h5py
import numpy as np

SESSIONS, OF_REFERENCES = "sessions", "references/session"


@dataclass(frozen=True)
class Session:
    """Images that were taken together.

    name: what the user calls it, as "night". begun: seconds since 1970, where that is known.
    """

    name: str = ""
    begun: float | None = None


@dataclass(frozen=True)
class Sessions:
    """every: the sessions of a map. of: (R,) into them, that of each reference."""

    every: tuple[Session, ...]
    of: np.ndarray

    @classmethod
    def one(cls, session: Session, references: int) -> Sessions:
        """All references are of one session."""
        return cls((session,), np.zeros(references, np.int32))

    def part(self, references: np.ndarray) -> Sessions:
        """Those of some references, given by (R,) bool or by their numbers."""
        used, of = np.unique(self.of[references], return_inverse=True)
        return Sessions(tuple(self.every[i] for i in used.tolist()), of.astype(np.int32))

    @classmethod
    def joined(cls, parts: Sequence[Sessions]) -> Sessions:
        """Of all references of several maps; the same session of two maps is one."""
        every = tuple(dict.fromkeys(session for part in parts for session in part.every))
        place = {session: number for number, session in enumerate(every)}
        of = [np.array([place[s] for s in part.every], np.int32)[part.of] for part in parts]
        return cls(every, np.concatenate(of))

    def write(self, file: h5py.File) -> None:
        told = [json.dumps({"name": s.name, "begun": s.begun}) for s in self.every]
        file.create_dataset(SESSIONS, data=told, dtype=h5py.string_dtype())
        file[OF_REFERENCES] = self.of

    @classmethod
    def read(cls, file: h5py.File, references: int) -> Sessions:
        """Maps of before, which have none, are of one session. Raises ValueError for damaged
        ones.
        """
        if SESSIONS not in file:
            return cls.one(Session(), references)
        entries = [json.loads(text) for text in file[SESSIONS].asstr()[:]]
        every = tuple(Session(str(e["name"]), _stamp(e["begun"])) for e in entries)
        of = file[OF_REFERENCES][:]
        if of.shape != (references,) or not 0 <= of.min() <= of.max() < len(every):
            raise ValueError("sessions of references")
        return cls(every, of)


def day_of(stamp: float) -> str:
    """The day of a stamp (seconds since 1970), as a reader of a report writes it."""
    if math.isnan(stamp):
        return "never"
    try:
        return datetime.fromtimestamp(stamp).strftime("%Y-%m-%d")
    except (OverflowError, OSError, ValueError):  # a clock that was never set
        return "at an unknown time"


def _stamp(value: object) -> float | None:
    if value is None:
        return None
    stamp = float(str(value))
    if not math.isfinite(stamp):
        raise ValueError("time of a session")
    return stamp
