"""Remember what a source looked like when it was read last, so that what did not change is not read again.

A SQLite file in the scratch folder. Of every origin: its state and what the visit found; of every file: length, time
of change and inode, and the id of its bytes. Losing the file costs time only, and so does a damaged one: it is begun
anew. Time of change is the later one of mtime and ctime, so putting an old mtime back does not hide a change.

A file that was changed twice within one tick of the file system's clock looks the same after the second change. So
nothing is remembered that changed less than two seconds (the coarsest clock, FAT's) before the reading began; the
moment it began is told by the file system itself, as the time of a file written then (git's index does the same).
Known limit: bytes changed through a memory map that was not yet written back.
"""

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from stack_platform.archive.trees import Release, SourceFile

_TICK_NS = 2_000_000_000
_VERSION = 1  # of the tables below: another one is begun anew
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)
_STAMP = struct.Struct("<qqQ")
_TABLES = """
CREATE TABLE origin (id INTEGER PRIMARY KEY, url TEXT UNIQUE, state TEXT, status TEXT, snapshot TEXT);
CREATE TABLE file (origin INTEGER, tree BLOB, path BLOB, stamp BLOB, sha1_git BLOB, PRIMARY KEY (origin, tree, path))
    WITHOUT ROWID;
"""


class Remembered(NamedTuple):
    """What an origin looked like and what its visit found."""

    state: str
    status: str
    snapshot: str | None


class HashCache:
    """The memory of one source; with no folder, and after an error, it remembers nothing."""

    def __init__(self, scratch: Path | None) -> None:
        self._path = None if scratch is None else scratch / "hashes.sqlite"
        self._connection = None if self._path is None else _connect(self._path)
        self._trusted_ns = 0 if scratch is None else _now_ns(scratch) - _TICK_NS

    def close(self) -> None:
        """Write what is remembered."""
        if self._connection is not None:
            self._connection.close()

    def origins(self) -> dict[str, Remembered]:
        """Give what is remembered of each origin, by URL."""
        remembered: dict[str, Remembered] = {}
        with self._forgiving() as connection:
            rows = connection.execute(
                "SELECT url, state, status, snapshot FROM origin WHERE state IS NOT NULL"
            )
            remembered.update((url, Remembered(*rest)) for url, *rest in rows)
        return remembered

    def files(self, url: str, release: Release) -> Iterator[tuple[int, bytes]]:
        """Give (place, sha1_git) of those files of a release that did not change since they were hashed."""
        with self._forgiving() as connection:
            rows = connection.execute(
                "SELECT path, stamp, sha1_git FROM file JOIN origin ON origin = id "
                "WHERE url = ? AND tree = ? ORDER BY path",
                (url, _tree(release)),
            )
            row = rows.fetchone()
            for place, file in enumerate(release.files):  # both are ordered by path
                while row is not None and row[0] < file.path:
                    row = rows.fetchone()
                if row is not None and row[0] == file.path and row[1] == _stamp(file) and not file.problem:
                    yield place, row[2]

    def keep(
        self,
        url: str,
        changed_ns: int,
        found: Remembered,
        trees: Iterable[tuple[Release, Sequence[bytes | None]]],
    ) -> None:
        """Remember an origin and the ids of its files in place of what was remembered of it.

        The state of an origin that changed shortly before reading began is left out, and so is each such file.
        """
        state = found.state if changed_ns < self._trusted_ns else None
        with self._forgiving() as connection, connection:
            connection.execute(
                "INSERT INTO origin (url, state, status, snapshot) VALUES (?, ?, ?, ?) ON CONFLICT (url) "
                "DO UPDATE SET state = excluded.state, status = excluded.status, snapshot = excluded.snapshot",
                (url, state, found.status, found.snapshot),
            )
            (key,) = connection.execute("SELECT id FROM origin WHERE url = ?", (url,)).fetchone()
            connection.execute("DELETE FROM file WHERE origin = ?", (key,))
            connection.executemany(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)",
                (
                    (key, _tree(release), file.path, _stamp(file), sha1_git)
                    for release, ids in trees
                    for file, sha1_git in zip(release.files, ids, strict=True)
                    if sha1_git is not None and file.changed_ns < self._trusted_ns
                ),
            )

    @contextmanager
    def _forgiving(self) -> Iterator[sqlite3.Connection]:
        """Give the connection; without one, or after an error, an empty one that forgets."""
        if self._connection is None or self._path is None:
            with closing(sqlite3.connect(":memory:")) as empty:
                empty.executescript(_TABLES)
                yield empty
            return
        try:
            yield self._connection
        except sqlite3.Error as error:
            self._connection.close()
            self._connection = None
            if error.sqlite_errorcode not in _PASSING:
                _remove(self._path)


def _tree(release: Release) -> bytes:
    return b"" if release.name is None else b"%s\0%s" % (release.name, release.artifact)


def _stamp(file: SourceFile) -> bytes:
    return _STAMP.pack(file.length, file.changed_ns, file.inode & (2**64 - 1))


def _now_ns(folder: Path) -> int:
    clock = folder / "clock"
    clock.write_bytes(b"")
    return clock.stat().st_mtime_ns


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file, begun anew where it is damaged or of another version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _open(path)
    except sqlite3.DatabaseError:
        _remove(path)
        return _open(path)


def _remove(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        name.unlink(missing_ok=True)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            with closing(connection.cursor()) as cursor:
                cursor.execute("DROP TABLE IF EXISTS file")
                cursor.execute("DROP TABLE IF EXISTS origin")
                cursor.executescript(_TABLES)
                cursor.execute(f"PRAGMA user_version = {_VERSION}")
            connection.commit()
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection
