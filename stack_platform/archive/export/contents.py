"""Give the contents that the files of an export name: their rows, and their bytes from wherever they are.

Bytes come out of the export's own column `data`, or are downloaded from ``<contents>/<sha1>``, and always have the
sha1_git and length that the export states. Each content that cannot be had becomes a row of skipped_content with
its reason. Downloaded contents leave ordered by extension, so that those of one language lie together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from obstore.store import ObjectStore

from stack_platform.archive.blobs import is_binary
from stack_platform.archive.downloads import Damaged, DownloadConfig, Wanted, download, verified
from stack_platform.archive.export.tables import ExportTables, HexKeys
from stack_platform.archive.export.walk import NO_BYTES, NOT_AVAILABLE, Lost, Workspace
from stack_platform.archive.hashing import hash_bytes
from stack_platform.archive.ledger import Ledger
from stack_platform.archive.sources import NOT_YET, IdSet, Known, Progress, Reading
from stack_platform.schemas import ARCHIVE

_ROWS = 16_384
_COLUMNS = ("sha1", "sha1_git", "sha256", "blake2s256", "length", "status")

_OPEN = """
CREATE TABLE open AS
SELECT DISTINCT ON (sha1_git) sha1, sha1_git, sha256, blake2s256, length, status, extension
FROM content JOIN file USING (sha1_git) ORDER BY sha1_git, status DESC, sha1
"""


@dataclass(frozen=True, slots=True)
class Bytes:
    """Where the bytes of contents come from, and which are held."""

    store: ObjectStore | None
    """the folder of gzip objects; None: only the export's own column"""
    downloads: DownloadConfig
    max_content_bytes: int
    hold_binary: bool


class LostBefore:
    """Contents that the archive was told it cannot have."""

    def __init__(self, known: Known) -> None:
        rows = known.read("skipped_content", ["sha1_git", "reason"]).to_pylist()
        told = [(row["sha1_git"], row["reason"] or "") for row in rows if row["sha1_git"]]
        lost = {name for name, reason in told if reason.startswith((NOT_YET, NO_BYTES, NOT_AVAILABLE))}
        if lost:
            held = IdSet(known.read("content", ["sha1_git"])["sha1_git"])
            lost.intersection_update(held.lacks(sorted(lost)))
        self.for_good = {name for name, reason in told if name in lost and reason.startswith(NOT_AVAILABLE)}
        self.pending = lost - self.for_good
        """what the next reading looks into again"""


class Contents:
    """The contents of one reading."""

    def __init__(
        self, workspace: Workspace, ledger: Ledger, before: LostBefore, source: Bytes, reading: Reading
    ) -> None:
        """Prepare; the workspace holds the entries of all directories."""
        self._workspace, self._ledger, self._before = workspace, ledger, before
        self._source, self._reading = source, reading
        self._done, self._total = [0, 0], (0, 0)

    def read(self, tables: ExportTables, known: Known) -> Iterator[pa.RecordBatch]:
        """Give rows of `content` that the archive lacks, and note in the workspace what is lost."""
        lacking = self._lacking(known)
        if not lacking:
            return
        space, keys = self._workspace, HexKeys(lacking)
        for table in ("content", "skipped_content"):
            space.take(tables, table, "sha1_git", keys, self._reading.threads)
        space.database.execute(_OPEN)
        self._note_absent(lacking)
        count = space.rows("SELECT count(*), coalesce(sum(length), 0) FROM open")[0]
        self._total = (count[0], int(count[1]))
        yield from self._batched(self._without_bytes())
        if tables.holds_data():
            yield from self._batched(self._from_column(tables))
        yield from self._batched(self._downloaded())

    def _lacking(self, known: Known) -> list[str]:
        """Name the contents that the archive lacks; what it knows as lost is noted for the state of visits."""
        space = self._workspace
        names = (
            "SELECT target, min(name) FROM directory_entry WHERE type = 'file' AND target IS NOT NULL "
            "GROUP BY target ORDER BY target"
        )
        lacking: list[str] = []
        for batch in space.batches(names):
            ids = batch.column(0).to_pylist()
            extensions = [_extension(name) for name in batch.column(1).to_pylist()]
            space.fill(
                "file",
                [
                    pa.RecordBatch.from_arrays(
                        [pa.array(ids, pa.string()), pa.array(extensions, pa.binary())],
                        ["sha1_git", "extension"],
                    )
                ],
            )
            lacking += known.contents.lacks(ids)
            lacking += [name for name in ids if name in self._before.pending]
            for_good = [name for name in ids if name in self._before.for_good]
            space.lose("file", [Lost(name, "", given=False) for name in for_good])
        return sorted(set(lacking))

    def _note_absent(self, lacking: Sequence[str]) -> None:
        """Note what the export skipped itself, and what it does not know."""
        space = self._workspace
        known_here = {row[0] for row in space.rows("SELECT sha1_git FROM open")}
        absent = [name for name in lacking if name not in known_here]
        rows = space.rows(
            "SELECT sha1_git, min(coalesce(reason, 'skipped')) FROM skipped_content GROUP BY sha1_git"
        )
        skipped = dict(rows)
        space.lose(
            "file",
            [
                Lost(name, skipped[name], harmful=False)
                if name in skipped
                else self._lost(name, "the export knows no such content", NOT_AVAILABLE)
                for name in absent
            ],
        )

    def _lost(self, sha1_git: str, reason: str, kind: str) -> Lost:
        told = sha1_git in self._before.pending and kind != NOT_AVAILABLE
        return Lost(sha1_git, kind + reason, given=not told)

    def _without_bytes(self) -> Iterator[tuple[Any, ...]]:
        """Give hidden contents, and note those that are too long or cannot be named."""
        space, limit = self._workspace, self._source.max_content_bytes
        columns = ", ".join(_COLUMNS)
        for row in space.rows(f"SELECT {columns} FROM open WHERE status = 'hidden' ORDER BY sha1_git"):  # noqa: S608
            yield (*row, None)
        long = space.rows("SELECT sha1_git, length FROM open WHERE length > ? ORDER BY sha1_git", [limit])
        space.lose(
            "file",
            [Lost(row[0], f"too large: {row[1]} bytes, the limit is {limit}", harmful=False) for row in long],
        )
        odd = space.rows("SELECT sha1_git FROM open WHERE sha1 IS NULL OR length IS NULL ORDER BY sha1_git")
        space.lose(
            "file",
            [self._lost(row[0], "the export states no sha1 or no length", NOT_AVAILABLE) for row in odd],
        )
        space.database.execute(
            "DELETE FROM open WHERE status = 'hidden' OR length > ? OR sha1 IS NULL OR length IS NULL",
            [limit],
        )

    def _from_column(self, tables: ExportTables) -> Iterator[tuple[Any, ...]]:
        """Give contents whose bytes the export holds."""
        space = self._workspace
        ids = space.ids("SELECT sha1_git FROM open")
        for batch in tables.contents(HexKeys(ids)):
            names = batch.column(0).to_pylist()
            space.database.register("names", pa.table({"sha1_git": pa.array(names, pa.string())}))
            columns = ", ".join(_COLUMNS)
            stated = {
                row[1]: row
                for row in space.rows(f"SELECT {columns} FROM open SEMI JOIN names USING (sha1_git)")  # noqa: S608
            }
            read: list[str] = []
            for name, data in zip(names, batch.column(2), strict=True):
                if name not in stated:
                    continue
                row = self._row(stated.pop(name), data.as_py())
                read.append(name)
                self._progress(1, len(data.as_buffer()))
                if row is not None:
                    yield row
            space.database.register("names", pa.table({"sha1_git": pa.array(read, pa.string())}))
            space.database.execute("DELETE FROM open WHERE sha1_git IN (SELECT sha1_git FROM names)")
            space.database.unregister("names")

    def _row(self, stated: tuple[Any, ...], data: bytes) -> tuple[Any, ...] | None:
        """Give a row with its bytes, or note that they are not those of the content."""
        sha1_git, length = stated[1], stated[4]
        hashes = hash_bytes(data)
        if (hashes.sha1_git, hashes.length) != (sha1_git, length):
            reason = f"wrong hash: the bytes hash to {hashes.sha1_git}"
            if hashes.sha1_git == sha1_git:
                reason = f"wrong length: {hashes.length} bytes, the export says {length}"
            self._workspace.lose("file", [self._lost(sha1_git, reason, NOT_AVAILABLE)])
            return None
        held = data if self._source.hold_binary or not is_binary(data) else None
        return (
            stated[0],
            sha1_git,
            stated[2] or hashes.sha256,
            stated[3] or hashes.blake2s256,
            length,
            stated[5],
            held,
        )

    def _downloaded(self) -> Iterator[tuple[Any, ...]]:
        """Fetch what is still open, then give it in the order of extensions."""
        space, store = self._workspace, self._source.store
        columns = ", ".join(_COLUMNS)
        ordered = f"SELECT {columns} FROM open ORDER BY extension, sha1_git"  # noqa: S608  names are ours
        if store is None:
            reason = "the export holds none for it; say in `contents` where they are"
            space.lose("file", [self._lost(row[1], reason, NO_BYTES) for row in space.rows(ordered)])
            return
        wanted = (
            Wanted(row["sha1"], row["sha1_git"], row["length"])
            for batch in space.batches(ordered)
            for row in batch.to_pylist()
        )
        download(store, wanted, self._ledger, self._source.downloads, lambda size: self._progress(1, size))
        for batch in space.batches(ordered):
            for stated in batch.to_pylist():
                row = self._from_ledger(tuple(stated.values()))
                if row is not None:
                    yield row

    def _from_ledger(self, stated: tuple[Any, ...]) -> tuple[Any, ...] | None:
        sha1_git, length = stated[1], stated[4]
        received = self._ledger.get(sha1_git)
        try:
            if received is not None:
                return self._row(stated, verified(received, sha1_git, length))
        except Damaged as damaged:
            self._ledger.discard(sha1_git)
            self._workspace.lose("file", [self._lost(sha1_git, damaged.reason, NOT_YET)])
            return None
        failure = self._ledger.failure(sha1_git)
        reason, permanent = ("it did not arrive", False) if failure is None else failure
        self._workspace.lose("file", [self._lost(sha1_git, reason, NOT_AVAILABLE if permanent else NOT_YET)])
        return None

    def _progress(self, files: int, size: int) -> None:
        self._done[0] += files
        self._done[1] += size
        if self._reading.progress is not None:
            self._reading.progress(Progress(self._done[0], self._total[0], self._done[1], self._total[1]))

    def _batched(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        """Join rows into batches of about the size that the reader asks for."""
        group: list[tuple[Any, ...]] = []
        size = 0
        for row in rows:
            group.append(row)
            size += len(row[6] or b"")
            if size >= self._reading.batch_bytes or len(group) >= _ROWS:
                yield _content_batch(group)
                group, size = [], 0
        if group:
            yield _content_batch(group)


def _content_batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    schema = ARCHIVE["content"]
    columns = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def _extension(name: bytes) -> bytes:
    lower = name.lower()
    return lower.rpartition(b".")[2] if b"." in lower[1:] else b""
