"""Turn a source into the tables of a Software Heritage graph, batch by batch.

1. Files are ordered by (extension, origin, release, path), read and hashed, and leave as ``content`` batches of
   about `batch_bytes`, each content once: a language's contents lie together and can be read without the others.
2. With all hashes known, directories are built from the leaves to the root, each once.
3. Releases, snapshots, visits and origins follow.

The tables and their rows come in the same order and with the same bytes whatever the number of threads; ids do
not depend on the machine. A file that cannot be read has no entry in its directory but a row with a reason in
``skipped_content``; a file beyond the size limit has both. The date of the visit is the caller's, for this module
has no clock.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa

from stack_platform.archive.blobs import Blob, Located, read_in_order
from stack_platform.archive.swhid import (
    Branch,
    Entry,
    directory_id,
    origin_id,
    release_id,
    snapshot_id,
    tree_order,
)
from stack_platform.archive.trees import Source, Visit
from stack_platform.errors import ConfigError
from stack_platform.schemas import ARCHIVE

FORMAT = "graph/1"  # part of every fingerprint: raise it when the same files give other rows

_BATCH_ROWS = 16_384
_DIRECTORY = 0o40000


class Progress(NamedTuple):
    """How far reading has come."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int


class _Rows:
    """Rows of one table that wait to become a batch."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.rows: list[tuple[Any, ...]] = []
        self.bytes = 0

    def add(self, row: tuple[Any, ...], size: int = 0) -> None:
        self.rows.append(row)
        self.bytes += size

    def take(self) -> tuple[str, pa.RecordBatch]:
        schema = ARCHIVE[self.table]
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        self.rows, self.bytes = [], 0
        return self.table, pa.RecordBatch.from_arrays(arrays, schema=schema)


def build_graph(
    source: Source,
    visit_date: datetime | None = None,
    threads: int = 2,
    batch_bytes: int = 16 << 20,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield (table name, batch) for every table of the archive; a table without rows gives one empty batch.

    Raises:
        ConfigError: `visit_date` has no time zone, or a number is not positive.

    """
    if visit_date is not None and visit_date.tzinfo is None:
        raise ConfigError(f"visit_date {visit_date.isoformat()} has no time zone; add one, as in '+00:00'")
    if threads < 1 or batch_bytes < 1:
        raise ConfigError(f"threads is {threads} and batch_bytes {batch_bytes}; both must be 1 or more")
    visits = source.visits()
    targets: list[dict[bytes, tuple[int, str]]] = [{} for visit in visits for _ in visit.releases]
    written: set[str] = set()
    for batch in _contents(source, visits, targets, (threads, batch_bytes, progress)):
        written.add(batch[0])
        yield batch
    for batch in _objects(visits, targets, visit_date):
        written.add(batch[0])
        yield batch
    for table in ARCHIVE:
        if table not in written:
            yield _Rows(table).take()


def _located(visits: list[Visit]) -> list[Located]:
    releases = ((visit.origin, release) for visit in visits for release in visit.releases)
    located = [
        Located(origin, number, file)
        for number, (origin, release) in enumerate(releases)
        for file in release.files
    ]
    return sorted(located, key=lambda item: (_extension(item.file.path), item.release, item.file.path))


def _extension(path: bytes) -> bytes:
    name = path.rpartition(b"/")[2].lower()
    return name.rpartition(b".")[2] if b"." in name[1:] else b""


def _contents(
    source: Source,
    visits: list[Visit],
    targets: list[dict[bytes, tuple[int, str]]],
    settings: tuple[int, int, Callable[[Progress], None] | None],
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read all files; give content and skipped_content, and note every file's id in `targets`."""
    threads, batch_bytes, progress = settings
    files = _located(visits)
    total = sum(located.file.length for located in files)
    contents, skipped = _Rows("content"), _Rows("skipped_content")
    seen: set[str] = set()
    files_done = bytes_done = 0
    for group in read_in_order(files, source.max_content_bytes, source.hold_binary, threads):
        for blob in group:
            _note(blob, targets, seen, contents, skipped)
            if contents.bytes >= batch_bytes or len(contents.rows) >= _BATCH_ROWS:
                yield contents.take()
        if len(skipped.rows) >= _BATCH_ROWS:
            yield skipped.take()
        files_done += len(group)
        bytes_done += sum(blob.located.file.length for blob in group)
        if progress is not None:
            progress(Progress(files_done, len(files), bytes_done, total))
    for rows in (contents, skipped):
        if rows.rows:
            yield rows.take()


def _note(
    blob: Blob, targets: list[dict[bytes, tuple[int, str]]], seen: set[str], contents: _Rows, skipped: _Rows
) -> None:
    origin, release, file = blob.located
    hashes = blob.hashes
    if hashes is not None:
        targets[release][file.path] = (file.perms, hashes.sha1_git)
    if blob.problem or hashes is None:
        known = hashes or (None, None, None, None, None if file.problem else file.length)
        skipped.add((*known, "absent", blob.problem, origin, file.path))
    elif hashes.sha1_git not in seen:
        seen.add(hashes.sha1_git)
        contents.add((*hashes, "visible", blob.data), len(blob.data or b""))


def build_directories(files: Iterable[tuple[bytes, tuple[int, str]]]) -> list[tuple[str, list[Entry]]]:
    """Make the directories of (path, (perms, sha1_git)) pairs: (id, entries in git's order), the root last.

    Raises:
        SourceError: a path is a file and a folder.

    """
    folders: dict[bytes, list[Entry]] = {b"": []}
    for path, (perms, target) in files:
        folder, _, name = path.rpartition(b"/")
        while folder and folder not in folders:
            folders[folder] = []
            folder = folder.rpartition(b"/")[0]
        folders[path.rpartition(b"/")[0]].append(Entry(name, "file", target, perms))
    made: list[tuple[str, list[Entry]]] = []
    for folder in sorted(folders, key=lambda path: (-path.count(b"/") if path else 1, path)):
        entries = sorted(folders[folder], key=tree_order)
        identifier = directory_id(entries)
        made.append((identifier, entries))
        if folder:
            parent, _, name = folder.rpartition(b"/")
            folders[parent].append(Entry(name, "dir", identifier, _DIRECTORY))
    return made


def _objects(
    visits: list[Visit], targets: list[dict[bytes, tuple[int, str]]], visit_date: datetime | None
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Give all tables but the contents' ones."""
    tables = {table: _Rows(table) for table in ARCHIVE}
    seen: set[str] = set()
    date = _date(visit_date)
    number = 0
    for visit in visits:
        branches: dict[bytes, Branch] = {}
        for release in visit.releases:
            root = _add_directories(build_directories(targets[number].items()), tables, seen)
            branches[b"releases/" + release.name] = Branch(
                "release", _add_release(release.name, root, tables, seen)
            )
            number += 1
        snapshot = _add_snapshot(branches, tables, seen) if visit.releases else None
        tables["origin"].add((origin_id(visit.origin), visit.origin))
        tables["origin_visit"].add((visit.origin, 1, date, visit.type))
        tables["origin_visit_status"].add((visit.origin, 1, date, visit.status, snapshot, visit.type))
        for rows in tables.values():
            if len(rows.rows) >= _BATCH_ROWS:
                yield rows.take()
    for rows in tables.values():
        if rows.rows:
            yield rows.take()


def _add_directories(
    directories: list[tuple[str, list[Entry]]], tables: dict[str, _Rows], seen: set[str]
) -> str:
    for identifier, entries in directories:
        if identifier not in seen:
            seen.add(identifier)
            tables["directory"].add((identifier, None))
            for entry in entries:
                tables["directory_entry"].add((identifier, *entry))
    return directories[-1][0]


def _add_release(name: bytes, root: str, tables: dict[str, _Rows], seen: set[str]) -> str:
    identifier = release_id(name, root)
    if identifier not in seen:
        seen.add(identifier)
        tables["release"].add((identifier, name, None, root, "directory", None, None, None, None, None))
    return identifier


def _add_snapshot(branches: dict[bytes, Branch], tables: dict[str, _Rows], seen: set[str]) -> str:
    named = {b"HEAD": Branch("alias", next(iter(branches)).hex()), **branches}
    identifier = snapshot_id(named)
    if identifier not in seen:
        seen.add(identifier)
        tables["snapshot"].add((identifier,))
        for name, branch in sorted(named.items()):
            tables["snapshot_branch"].add((identifier, name, branch.target, branch.target_type))
    return identifier


def _date(moment: datetime | None) -> dict[str, int] | None:
    if moment is None:
        return None
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return {"seconds": since // timedelta(seconds=1), "microseconds": moment.microsecond}


def source_fingerprint(source: Source) -> str:
    """Digest what the file system says of a source (names, sizes, times) and its settings, without reading files.

    The same fingerprint means the same tables, unless a file changed its bytes but neither length nor time.
    """
    digest = hashlib.sha256()
    settings = [FORMAT, source.max_content_bytes, source.hold_binary]
    digest.update(json.dumps(settings).encode())
    for visit in source.visits():
        digest.update(json.dumps([visit.origin, visit.type, visit.status]).encode())
        for release in visit.releases:
            digest.update(b"\n%d %s\n" % (len(release.files), release.name.hex().encode()))
            for path, _, perms, length, mtime_ns, problem in release.files:
                record = b"%s\0%o %d %d %s\n" % (path, perms, length, mtime_ns, problem.encode())
                digest.update(record)
    return digest.hexdigest()
