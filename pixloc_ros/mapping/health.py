"""How a map ages: what drives have found and missed of its points, in a file beside it.

`place.pixmap.h5` has `place.health.sqlite`. SQLite loses nothing that was added when a process is
killed, lets several nodes add to one file, and leaves it as it was where the disk is full. Every
row belongs to who wrote it and only ever grows, so files of several robots can be joined in any
order, and any number of times (a state-based CRDT: Shapiro et al., 2011).
"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixloc_ros.errors import InputError
from pixloc_ros.mapping.map_file import PixMap
from pixloc_ros.mapping.schema import SUFFIX

HEALTH_SUFFIX = ".health.sqlite"
FORMAT, VERSION = "pixloc_health", 1
REST = 10.0
"""Seconds that a point is not judged again by the same robot: one person before the camera says
no more about it the longer he stands there."""
RATE = 0.2
"""Weight of the newest judgement in `lately`."""
GONE = 0.25
"""A point that is found less often lately is taken for gone: seven judgements against it, one
after the other, or more where some speak for it."""
SESSIONS = 400
"""Sessions of a writer that are kept, the newest."""
WAIT = 10.0
"""Seconds to wait for another process that writes."""

_TABLES = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS points (
  writer TEXT, point INTEGER, judged INTEGER, found INTEGER, lately REAL, seen REAL,
  PRIMARY KEY (writer, point)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
  writer TEXT, session INTEGER, begun REAL, frames INTEGER,
  PRIMARY KEY (writer, session)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS visits (
  writer TEXT, session INTEGER, reference INTEGER, frames INTEGER, refused INTEGER,
  judged INTEGER, found INTEGER,
  PRIMARY KEY (writer, session, reference)) WITHOUT ROWID;
"""

_JUDGE = """
INSERT INTO points VALUES (?1, ?2, 1, ?3, 1 - ?5 * (1 - ?3), ?4)
ON CONFLICT DO UPDATE SET judged = judged + 1, found = found + ?3,
  lately = lately + ?5 * (?3 - lately), seen = ?4
WHERE abs(seen - ?4) >= ?6
"""

_VISIT = """
INSERT INTO visits VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6)
ON CONFLICT DO UPDATE SET frames = frames + 1, refused = refused + ?4, judged = judged + ?5,
  found = found + ?6
"""

_JOIN = """
INSERT INTO points SELECT * FROM other.points WHERE true
ON CONFLICT DO UPDATE SET judged = excluded.judged, found = excluded.found,
  lately = excluded.lately, seen = excluded.seen WHERE excluded.judged > judged;
INSERT INTO sessions SELECT * FROM other.sessions WHERE true
ON CONFLICT DO UPDATE SET begun = excluded.begun, frames = excluded.frames
  WHERE excluded.frames > frames;
INSERT INTO visits SELECT * FROM other.visits WHERE true
ON CONFLICT DO UPDATE SET frames = excluded.frames, refused = excluded.refused,
  judged = excluded.judged, found = excluded.found WHERE excluded.frames > frames;
"""


class HealthError(InputError):
    """A file of a map's health that cannot be used, in one line."""


@dataclass(frozen=True)
class Judgement:
    """What one fix says of a map.

    points: (n,) of the map, each once, that were judged; found: (n,) bool, whether the image shows
    them. references: (m,) that it was aligned with. shown_by: (k,), shown: (k,) bool: judged
    observations, by their reference.
    """

    points: np.ndarray
    found: np.ndarray
    references: np.ndarray
    shown_by: np.ndarray
    shown: np.ndarray


@dataclass(frozen=True)
class PointHealth:
    """Of all points (P,). judged, found: how often; lately: share found, the newest weigh most,
    1 where none was judged.
    """

    judged: np.ndarray
    found: np.ndarray
    lately: np.ndarray

    @property
    def gone(self) -> np.ndarray:
        """Which points are taken for gone, (P,) bool."""
        return self.lately < GONE


@dataclass(frozen=True)
class ReferenceHealth:
    """Of all references (R,), in the last session that used each: frames, how many of them were
    refused, judged observations, and how many of these were found. last: when that session began,
    seconds since 1970, NaN for references that were never used.
    """

    frames: np.ndarray
    refused: np.ndarray
    judged: np.ndarray
    found: np.ndarray
    last: np.ndarray


def health_path(map_file: Path) -> Path:
    """Where the health of a map lies."""
    return map_file.with_name(map_file.name.removesuffix(SUFFIX) + HEALTH_SUFFIX)


def robot_name() -> str:
    """Tells this machine from others, as long as it lives."""
    for file in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        if os.access(file, os.R_OK) and (name := Path(file).read_text().strip()):
            return name
    return socket.gethostname()


class MapHealth:
    """The health of one map. Use as a context manager, or `close` it.

    path: of the file; made where there is none, unless it is only read. writer: who adds to it;
    None only reads. Raises HealthError for a damaged file or a full disk, and where another map's
    is only read. Who writes begins anew then, and the file of the other map gets another name.
    """

    def __init__(self, pixmap: PixMap, path: Path, writer: str | None = None) -> None:
        self.path, self._writer = path, writer
        self._points, self._references = pixmap.point_count, len(pixmap)
        self._session: int | None = None
        if writer is None and not path.is_file():
            raise HealthError(f"{path}: no such file; the node makes it (parameter learn)")
        self._file = self._opened()
        try:
            known = self._about(pixmap.checksum)
            if writer is not None and known.get("map", pixmap.checksum) != pixmap.checksum:
                self._file.close()  # which takes its log into the file
                with self._plainly():
                    os.replace(path, path.with_suffix(f".{known['map'][:8]}{path.suffix}"))
                self._file = self._opened()
                known = self._about(pixmap.checksum)
            self._require(known, pixmap.checksum)
        except BaseException:
            self._file.close()
            raise

    @contextmanager
    def _plainly(self, path: Path | None = None) -> Iterator[None]:
        """What goes wrong with a file, which is this one if no other is named, in one line."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise HealthError(f"{path or self.path}: {error}") from None

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """All of it, or nothing."""
        with self._plainly():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise

    def _opened(self) -> sqlite3.Connection:
        mode = "ro" if self._writer is None else "rwc"
        with self._plainly():
            return sqlite3.connect(
                f"{self.path.resolve().as_uri()}?mode={mode}",
                WAIT,
                isolation_level=None,
                uri=True,
                check_same_thread=False,
            )

    def _about(self, checksum: str) -> dict[str, str]:
        """What the file says of itself; who writes makes it first where there is nothing."""
        mine = {"format": FORMAT, "version": str(VERSION), "map": checksum}
        if self._writer is not None:
            with self._plainly():
                # readers and one writer at once; what is committed survives a killed process
                self._file.execute("PRAGMA journal_mode = WAL")
                self._file.execute("PRAGMA synchronous = NORMAL")
            with self._changing():
                for statement in _TABLES.split(";"):
                    self._file.execute(statement)
                entries = list(mine.items())
                self._file.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", entries)
        with self._plainly():
            return dict(self._file.execute("SELECT key, value FROM about"))

    def _require(self, known: Mapping[str, str], checksum: str) -> None:
        if known.get("format") != FORMAT:
            raise HealthError(f"{self.path}: not the health of a map")
        if known.get("version") != str(VERSION):
            raise HealthError(f"{self.path}: version {known.get('version')}, not {VERSION}")
        if known.get("map") != checksum:
            raise HealthError(f"{self.path}: is of another map")

    def add(self, judgement: Judgement, stamp: float) -> None:
        """Keep what a fix says. stamp: of its image, seconds."""
        references = np.unique(judgement.references)
        by_reference = judgement.shown_by == references[:, None]
        judged, found = by_reference.sum(1), (by_reference & judgement.shown).sum(1)
        points = [
            (self._writer, int(point), int(there), stamp, RATE, REST)
            for point, there in zip(judgement.points, judgement.found, strict=True)
        ]
        with self._changing():
            self._file.executemany(_JUDGE, points)
            self._visit(stamp, references, 0, judged, found)

    def add_refusal(self, references: Sequence[int], stamp: float) -> None:
        """Keep that an image was refused where these references were expected to show it."""
        none = np.zeros(len(references), int)
        with self._changing():
            self._visit(stamp, np.asarray(references, int), 1, none, none)

    def _visit(
        self,
        stamp: float,
        references: np.ndarray,
        refused: int,
        judged: np.ndarray,
        found: np.ndarray,
    ) -> None:
        session = self._begun(stamp)
        rows = zip(references.tolist(), judged.tolist(), found.tolist(), strict=True)
        self._file.executemany(
            _VISIT, [(self._writer, session, r, refused, j, f) for r, j, f in rows]
        )
        self._file.execute(
            "UPDATE sessions SET frames = frames + 1 WHERE writer = ? AND session = ?",
            (self._writer, session),
        )
        self._session = session

    def _begun(self, stamp: float) -> int:
        """The session of this writer, which begins with its first fix."""
        if self._session is not None:
            return self._session
        ((last,),) = self._file.execute(
            "SELECT coalesce(max(session), 0) FROM sessions WHERE writer = ?", (self._writer,)
        )
        session = last + 1
        self._file.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, 0)", (self._writer, session, stamp)
        )
        # by their number: clocks jump
        for table in ("sessions", "visits"):
            self._file.execute(
                f"DELETE FROM {table} WHERE writer = ? AND session <= ?",
                (self._writer, session - SESSIONS),
            )
        return session

    def points(self) -> PointHealth:
        """What all writers say of the points."""
        judged, found = (np.zeros(self._points, np.int64) for _ in range(2))
        weight, lately = (np.zeros(self._points) for _ in range(2))
        with self._plainly():
            rows = np.array(
                self._file.execute("SELECT point, judged, found, lately FROM points").fetchall()
            ).reshape(-1, 4)
        number = rows[:, 0].astype(np.int64)
        if len(rows) and not 0 <= number.min() <= number.max() < self._points:
            raise HealthError(f"{self.path}: damaged (a point that the map does not have)")
        np.add.at(judged, number, rows[:, 1].astype(np.int64))
        np.add.at(found, number, rows[:, 2].astype(np.int64))
        # a robot that looked a hundred times has no more to say of the present than ten looks
        heard = np.minimum(rows[:, 1], 10)
        np.add.at(weight, number, heard)
        np.add.at(lately, number, heard * rows[:, 3])
        share = np.divide(lately, weight, out=np.ones(self._points), where=weight > 0)
        return PointHealth(judged, found, share)

    def references(self) -> ReferenceHealth:
        """What the sessions say of the references, the last one of each."""
        frames, refused, judged, found = np.zeros((4, self._references), np.int64)
        last = np.full(self._references, np.nan)
        with self._plainly():
            rows = self._file.execute(
                "SELECT reference, visits.frames, refused, judged, found, begun FROM visits "
                "JOIN sessions USING (writer, session) ORDER BY begun, writer, session"
            ).fetchall()
        for reference, *numbers, begun in rows:
            if not 0 <= reference < self._references:
                raise HealthError(f"{self.path}: damaged (a reference that the map does not have)")
            counts = (frames, refused, judged, found)
            for count, number in zip(counts, numbers, strict=True):
                count[reference] = number
            last[reference] = begun
        return ReferenceHealth(frames, refused, judged, found, last)

    def frames(self) -> int:
        """Frames that were added by all writers, in the sessions that are kept."""
        with self._plainly():
            ((count,),) = self._file.execute("SELECT coalesce(sum(frames), 0) FROM sessions")
        return int(count)

    def join(self, other: Path) -> None:
        """Add what another file of the same map knows. Joining it again changes nothing."""
        if not other.is_file():
            raise HealthError(f"{other}: no such file")
        with self._plainly(other):
            self._file.execute("ATTACH ? AS other", (f"{other.resolve().as_uri()}?mode=ro",))
        try:
            with self._plainly(other):
                known = dict(self._file.execute("SELECT key, value FROM other.about"))
            own = dict(self._file.execute("SELECT key, value FROM about"))
            if known != own:
                raise HealthError(f"{other}: is not of the map that {self.path} is of")
            with self._changing():
                for statement in _JOIN.split(";"):
                    self._file.execute(statement)
        finally:
            with self._plainly():
                self._file.execute("DETACH other")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> MapHealth:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
