"""Keep downloaded contents on disk so that no interruption costs more than what was under way.

Millions of small objects are not millions of small files: they are appended to segments, and a SQLite ledger knows
their places. Formats:

- ``segment-<n>``: records, each
  1. ``SWH1``
  2. sha1 of the content, 20 bytes (the object's key)
  3. sha1_git of the content, 20 bytes
  4. length of what follows, 8 bytes, big-endian
  5. the object as it was received (gzip), verified before it was written
- ``parts/<sha1>``: the beginning of an object that is long, to be continued by a range request
- ``ledger.sqlite``: `held` (where a content is), `failed` (why it is not), `part` (ETag and size of a part)

A record is written with one system call when its object is verified. The ledger's rows follow in groups, after an
fsync of the segment, in one transaction. On opening, records behind the last place the ledger knows are read
again, verified and noted, and an incomplete one is cut off: a killed process loses the objects under way, a power
failure also those of one group. One process at a time may open a folder.
"""

import fcntl
import os
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from stack_platform.errors import SourceError

_HEADER = struct.Struct(">4s20s20sQ")
_MAGIC = b"SWH1"
_SEGMENT_BYTES = 256 << 20
_GROUP_OBJECTS, _GROUP_BYTES = 512, 16 << 20

_SCHEMA = """
CREATE TABLE IF NOT EXISTS held (
    sha1_git BLOB PRIMARY KEY, sha1 BLOB NOT NULL, segment INTEGER NOT NULL, start INTEGER NOT NULL,
    length INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS held_segment ON held (segment);
CREATE TABLE IF NOT EXISTS failed (
    sha1_git BLOB PRIMARY KEY, reason TEXT NOT NULL, permanent INTEGER NOT NULL, attempts INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS part (sha1 BLOB PRIMARY KEY, etag TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;
"""


class Failure(NamedTuple):
    """Why a content is not held."""

    reason: str
    permanent: bool
    """asking again would give the same"""


class Part(NamedTuple):
    """The beginning of a long object."""

    path: Path
    etag: str
    """of the object that it is a part of; empty: the store gives none, and the part cannot be continued"""
    size: int
    """bytes of the whole object"""


class Ledger:
    """The contents held in one folder, and why others are not; a context manager.

    Raises:
        SourceError: another process has the folder open, or it cannot be written.

    """

    def __init__(self, folder: Path, verify: Callable[[bytes, str], bool]) -> None:
        """Open a folder; `verify` tells whether a received object is the content with that sha1_git."""
        self._folder, self._verify = folder, verify
        self._pending: list[tuple[bytes, bytes, int, int, int]] = []
        self._pending_bytes = 0
        self._segment, self._file, self._end = 0, -1, 0
        self._lock = -1
        try:
            (folder / "parts").mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._database = sqlite3.connect(
                folder / "ledger.sqlite", isolation_level=None, check_same_thread=False
            )
            self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _SCHEMA)
        except BlockingIOError as error:
            raise SourceError(
                f"the downloads in {folder} are in use by another process; wait for it to end, or name "
                "another scratch folder"
            ) from error
        except (OSError, sqlite3.Error) as error:
            raise self._unwritable(error) from error
        self._recover()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.commit()
        finally:
            self._database.close()
            if self._file >= 0:
                os.close(self._file)
            os.close(self._lock)

    def _unwritable(self, error: Exception) -> SourceError:
        reason = getattr(error, "strerror", None) or error
        return SourceError(
            f"downloads cannot be written to {self._folder}: {reason}; free some space or name another scratch "
            "folder, then run again: what is complete is kept"
        )

    def _path(self, segment: int) -> Path:
        return self._folder / f"segment-{segment:06d}"

    def _segments(self) -> list[int]:
        return sorted(int(path.name.partition("-")[2]) for path in self._folder.glob("segment-*"))

    def _recover(self) -> None:
        """Note records that the ledger does not know, and cut an incomplete one off."""
        try:
            for segment in self._segments():
                known = self._database.execute(
                    "SELECT coalesce(max(start + length), 0) FROM held WHERE segment = ?", (segment,)
                ).fetchone()[0]
                if known < self._path(segment).stat().st_size:
                    end = self._adopt(segment, known)
                    os.truncate(self._path(segment), end)
            self._open(max(self._segments(), default=0))
            self.commit()
        except (OSError, sqlite3.Error) as error:
            raise self._unwritable(error) from error

    def _adopt(self, segment: int, place: int) -> int:
        """Note the complete records from a place on, and give where they end."""
        with self._path(segment).open("rb") as stream:
            stream.seek(place)
            while len(header := stream.read(_HEADER.size)) == _HEADER.size:
                magic, sha1, sha1_git, length = _HEADER.unpack(header)
                if magic != _MAGIC or length > _SEGMENT_BYTES * 64:
                    break
                data = stream.read(length)
                if len(data) < length or not self._verify(data, sha1_git.hex()):
                    break
                self._pending.append((sha1_git, sha1, segment, place + _HEADER.size, length))
                place += _HEADER.size + length
        return place

    def _open(self, segment: int) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = os.open(self._path(segment), os.O_RDWR | os.O_CREAT, 0o644)
        self._segment, self._end = segment, os.lseek(self._file, 0, os.SEEK_END)

    def put(self, sha1: str, sha1_git: str, data: bytes) -> None:
        """Append a verified object.

        Raises:
            SourceError: the disk is full or cannot be written.

        """
        if self._end >= _SEGMENT_BYTES:
            self.commit()
            self._open(self._segment + 1)
        key, identifier = bytes.fromhex(sha1), bytes.fromhex(sha1_git)
        record = _HEADER.pack(_MAGIC, key, identifier, len(data)) + data
        try:
            _write_all(self._file, record, self._end)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise self._unwritable(error) from error
        self._pending.append((identifier, key, self._segment, self._end + _HEADER.size, len(data)))
        self._pending_bytes += len(record)
        self._end += len(record)
        if len(self._pending) >= _GROUP_OBJECTS or self._pending_bytes >= _GROUP_BYTES:
            self.commit()

    def commit(self) -> None:
        """Make what was put durable.

        Raises:
            SourceError: the disk is full or cannot be written.

        """
        if not self._pending:
            return
        try:
            if self._file >= 0:
                os.fsync(self._file)
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?)", self._pending)
            ids = [(row[0],) for row in self._pending]
            self._database.executemany("DELETE FROM failed WHERE sha1_git = ?", ids)
            self._database.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise self._unwritable(error) from error
        self._pending, self._pending_bytes = [], 0

    def fail(self, sha1_git: str, failure: Failure) -> None:
        """Note why a content could not be had."""
        self._change(
            "INSERT INTO failed VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET reason = excluded.reason, "
            "permanent = excluded.permanent, attempts = attempts + 1",
            (bytes.fromhex(sha1_git), failure.reason, int(failure.permanent)),
        )

    def failure(self, sha1_git: str) -> Failure | None:
        """Say why a content is not held; None where it is, or was never asked for."""
        row = self._database.execute(
            "SELECT reason, permanent FROM failed WHERE sha1_git = ?", (bytes.fromhex(sha1_git),)
        ).fetchone()
        return None if row is None else Failure(row[0], bool(row[1]))

    def wants(self, sha1_git: str) -> bool:
        """Tell whether a content is to be asked for: it is neither held nor known to be impossible."""
        identifier = bytes.fromhex(sha1_git)
        row = self._database.execute(
            "SELECT EXISTS (SELECT 1 FROM held WHERE sha1_git = ?) "
            "OR EXISTS (SELECT 1 FROM failed WHERE sha1_git = ? AND permanent)",
            (identifier, identifier),
        ).fetchone()
        return not row[0]

    def get(self, sha1_git: str) -> bytes | None:
        """Give an object as it was received; None where it is not held."""
        self.commit()
        row = self._database.execute(
            "SELECT segment, start, length FROM held WHERE sha1_git = ?", (bytes.fromhex(sha1_git),)
        ).fetchone()
        if row is None:
            return None
        try:
            with self._path(row[0]).open("rb", buffering=0) as stream:
                data = os.pread(stream.fileno(), row[2], row[1])
        except FileNotFoundError:
            data = b""
        if len(data) == row[2]:
            return data
        self.discard(sha1_git)
        return None

    def discard(self, sha1_git: str) -> None:
        """Forget an object whose bytes are no longer right, so that it is asked for again."""
        self._change("DELETE FROM held WHERE sha1_git = ?", (bytes.fromhex(sha1_git),))

    def part(self, sha1: str) -> Part | None:
        """Give the beginning of an object, where an earlier attempt left one."""
        path = self._folder / "parts" / sha1
        row = self._database.execute(
            "SELECT etag, size FROM part WHERE sha1 = ?", (bytes.fromhex(sha1),)
        ).fetchone()
        return None if row is None or not path.exists() else Part(path, *row)

    def begin_part(self, sha1: str, etag: str, size: int) -> Part:
        """Start the part of an object anew."""
        path = self._folder / "parts" / sha1
        path.unlink(missing_ok=True)
        self._change("INSERT OR REPLACE INTO part VALUES (?, ?, ?)", (bytes.fromhex(sha1), etag, size))
        return Part(path, etag, size)

    def append_part(self, part: Part, chunk: bytes) -> None:
        """Write the next bytes of a part.

        Raises:
            SourceError: the disk is full or cannot be written.

        """
        try:
            with part.path.open("ab", buffering=0) as stream:
                _write_all(stream.fileno(), chunk, None)
        except OSError as error:
            raise self._unwritable(error) from error

    def drop_part(self, sha1: str) -> None:
        """Remove a part that is complete or of no use."""
        (self._folder / "parts" / sha1).unlink(missing_ok=True)
        self._change("DELETE FROM part WHERE sha1 = ?", (bytes.fromhex(sha1),))

    def forget(self, lacks: Callable[[Sequence[str]], Iterable[str]]) -> int:
        """Remove segments of which the caller lacks nothing, and give the number of bytes freed."""
        self.commit()
        freed = 0
        for segment in self._segments():
            if any(True for ids in self._ids(segment) for _ in lacks(ids)):
                continue
            if segment == self._segment:
                self._open(self._segment + 1)
            self._change("DELETE FROM held WHERE segment = ?", (segment,))
            freed += self._path(segment).stat().st_size
            self._path(segment).unlink()
        return freed

    def _ids(self, segment: int) -> Iterator[list[str]]:
        rows = self._database.execute("SELECT sha1_git FROM held WHERE segment = ?", (segment,))
        while group := rows.fetchmany(65_536):
            yield [row[0].hex() for row in group]

    def _change(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise self._unwritable(error) from error


def _write_all(file: int, data: bytes, place: int | None) -> None:
    """Write everything; the system may take less than it was given."""
    view = memoryview(data)
    while view:
        written = os.write(file, view) if place is None else os.pwrite(file, view, place)
        view = view[written:]
        place = None if place is None else place + written
