"""Turn a listing into the rows of a Software Heritage graph that are new, batch by batch.

1. Origins whose state and last visit are the remembered ones are passed over without a look at their files.
2. The others are visited in chunks of about 2 GiB, ordered by URL. Of each chunk, files are ordered by (extension,
   origin, release, path), read and hashed, and leave as ``content`` batches of about `batch_bytes`, each content
   once: a language's contents lie together and can be read without the others. A file that did not change since it
   was hashed, and whose content the archive has, is not read again.
3. With all hashes known, directories are built from the leaves to the root, each once; then releases, snapshots,
   origins, visits, and contents that were skipped. An origin found as its last visit found it gives nothing.

The rows come in the same order and with the same bytes whatever the number of threads and whether anything is
remembered; ids do not depend on the machine. A file that cannot be read has no entry in its directory but a row with
a reason in ``skipped_content``; a file beyond the size limit has both. The date of the visit is the caller's, for
this module has no clock.
"""

import hashlib
import json
from array import array
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from stack_platform.archive.blobs import Blob, Located, read_in_order
from stack_platform.archive.directories import build_directories
from stack_platform.archive.hash_cache import HashCache, Remembered
from stack_platform.archive.sources import IdSet, Known, LastVisit, Progress, Reading, Rows
from stack_platform.archive.swhid import Branch, origin_id, release_id, snapshot_id
from stack_platform.archive.trees import DIRECTORY, Listing, Origin, Release, Visit, local
from stack_platform.errors import ConfigError, SourceError
from stack_platform.schemas import ARCHIVE

FORMAT = "graph/2"  # part of every fingerprint: raise it when the same files give other rows

_BATCH_ROWS = 16_384
_CHUNK_BYTES = 2 << 30
_NO_HASHES = (None, None, None, None)
_FILE_BYTES = 4096  # what a file costs beside its bytes


@dataclass(frozen=True, slots=True)
class ListedSource:
    """A listing as a source of the archive."""

    listing: Listing

    def fingerprint(self) -> str:
        """Digest the states of the origins (names, sizes, times) and the settings; no file is read.

        Raises:
            ConfigError, SourceError: the listing cannot be made.

        """
        digest = hashlib.sha256()
        settings = [FORMAT, self.listing.max_content_bytes, self.listing.hold_binary]
        digest.update(json.dumps(settings).encode())
        for origin in self.listing.origins():
            digest.update(json.dumps([origin.url, origin.state]).encode())
        return digest.hexdigest()

    def read(self, known: Known, reading: Reading) -> Iterator[Rows]:
        """Give the rows that `known` lacks; what is remembered in `reading.scratch` is not read again.

        Raises:
            ConfigError: the date has no time zone, a number is not positive, or the listing's settings are wrong.
            SourceError: the listing cannot be made.

        """
        if reading.visit_date is not None and reading.visit_date.tzinfo is None:
            date = reading.visit_date.isoformat()
            raise ConfigError(f"visit_date {date} has no time zone; add one, as in '+00:00'")
        if reading.threads < 1 or reading.batch_bytes < 1:
            raise ConfigError(
                f"threads is {reading.threads} and batch_bytes {reading.batch_bytes}; both must be 1 or more"
            )
        with closing(HashCache(reading.scratch)) as cache:
            remembered = cache.origins()
            changed = [
                origin
                for origin in self.listing.origins()
                if not _is_unchanged(origin, remembered.get(origin.url), known.visits.get(origin.url))
            ]
            meter = _Meter(changed, reading)
            writer = _Writer(known, reading)
            for chunk in _chunks(changed):
                with self.listing.visits(chunk) as visits:
                    yield from _Chunk(self.listing, visits, cache, writer, meter).rows(chunk)
                meter.end(chunk)


def _is_unchanged(origin: Origin, remembered: Remembered | None, last: LastVisit | None) -> bool:
    return (
        remembered is not None
        and last is not None
        and remembered == Remembered(origin.state, last.status, last.snapshot)
    )


def _chunks(origins: Iterable[Origin]) -> Iterator[list[Origin]]:
    chunk: list[Origin] = []
    size = 0
    for origin in origins:
        cost = origin.bytes + origin.files * _FILE_BYTES
        if chunk and size + cost > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(origin)
        size += cost
    if chunk:
        yield chunk


class _Meter:
    """Tells how far reading has come; within a chunk by what was read, at its end by what it was said to hold."""

    def __init__(self, origins: list[Origin], reading: Reading) -> None:
        counts = [origin.files for origin in origins]
        self._show = reading.progress
        self._files_total = sum(counts) if all(counts) else 0
        self._bytes_total = sum(origin.bytes for origin in origins)
        self._files = self._bytes = self._ended = 0

    def add(self, files: int, size: int) -> None:
        self._files += files
        self._bytes = min(self._bytes + size, self._bytes_total)
        if self._show is not None:
            self._show(Progress(self._files, self._files_total, self._bytes, self._bytes_total))

    def end(self, chunk: list[Origin]) -> None:
        self._ended += sum(origin.bytes for origin in chunk)
        self._bytes = self._ended
        self.add(0, 0)


class _Buffer:
    """Rows of one table that wait to become a batch."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.rows: list[tuple[Any, ...]] = []
        self.bytes = 0

    def take(self) -> Iterator[Rows]:
        schema = ARCHIVE[self.table]
        if self.rows:
            columns = zip(*self.rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            self.rows, self.bytes = [], 0
            yield self.table, pa.RecordBatch.from_arrays(arrays, schema=schema)


class _New:
    """Tells which objects of a kind neither the archive has nor this reading gave yet."""

    def __init__(self, known: IdSet) -> None:
        self.known = known
        self._given: set[bytes] = set()

    def pick(self, identifiers: Iterable[str]) -> set[str]:
        """Give those that are new and take note of them."""
        lacking = self.known.lacks(list(dict.fromkeys(identifiers)))
        new = {identifier for identifier in lacking if bytes.fromhex(identifier) not in self._given}
        self._given.update(map(bytes.fromhex, new))
        return new

    def add(self, identifier: str) -> bool:
        """Take note of an object; True where it is new."""
        return bool(self.pick((identifier,)))


class _Writer:
    """The rows of a whole reading on their way out."""

    def __init__(self, known: Known, reading: Reading) -> None:
        self.known, self.reading = known, reading
        self.date = _date(reading.visit_date)
        self.new = {table: _New(known.ids(table)) for table in ("directory", "release", "snapshot")}
        self.new["content"] = _New(known.contents)
        self.buffers = {table: _Buffer(table) for table in ARCHIVE}

    def add(self, table: str, row: tuple[Any, ...], size: int = 0) -> None:
        buffer = self.buffers[table]
        buffer.rows.append(row)
        buffer.bytes += size

    def full(self, *tables: str) -> Iterator[Rows]:
        """Give the batches that are full, of all tables or of some."""
        for table in tables or ARCHIVE:
            buffer = self.buffers[table]
            if buffer.bytes >= self.reading.batch_bytes or len(buffer.rows) >= _BATCH_ROWS:
                yield from buffer.take()

    def rest(self) -> Iterator[Rows]:
        """Give the batches that are not full, too."""
        for buffer in self.buffers.values():
            yield from buffer.take()


class _Tree(NamedTuple):
    """A release of a visit, and the ids of its files as far as they are known."""

    visit: int
    release: Release
    ids: list[bytes | None]


class _Chunk:
    """Some visits on their way into rows."""

    def __init__(
        self, listing: Listing, visits: list[Visit], cache: HashCache, writer: _Writer, meter: _Meter
    ) -> None:
        self.limits = (listing.max_content_bytes, listing.hold_binary)
        self.visits, self.cache, self.writer, self.meter = visits, cache, writer, meter
        self.trees_of = [
            [_Tree(number, release, [None] * len(release.files)) for release in visit.releases]
            for number, visit in enumerate(visits)
        ]
        self.trees = [tree for trees in self.trees_of for tree in trees]
        self.skipped: list[list[tuple[Any, ...]]] = [[] for _ in visits]
        self.unsettled: set[int] = set()  # visits that met a problem which may be gone without a trace

    def rows(self, origins: list[Origin]) -> Iterator[Rows]:
        """Give all rows of the visits and remember what was found."""
        yield from self._contents()
        yield from self.writer.rest()
        for number, (origin, visit) in enumerate(zip(origins, self.visits, strict=True)):
            trees = self.trees_of[number]
            status, snapshot = visit.status, None
            try:
                if trees:
                    snapshot = yield from self._snapshot(trees)
            except SourceError as error:
                status = "failed"
                self.skipped[number].append((*_NO_HASHES, None, "absent", str(error), None))
            self._visit(visit, status, snapshot, self.skipped[number])
            yield from self.writer.full()
            if number not in self.unsettled:
                found = Remembered(origin.state, status, snapshot)
                kept = ((tree.release, tree.ids) for tree in trees)
                self.cache.keep(origin.url, origin.changed_ns, found, kept)
        yield from self.writer.rest()

    def _contents(self) -> Iterator[Rows]:
        """Read what has to be read; give the contents and note the id of every file."""
        for tree in self.trees:
            self._recall(tree)
        files, long = self._to_read()
        for group in read_in_order(files, long, self.limits, self.writer.reading.threads):
            new = self.writer.new["content"].pick(blob.hashes.sha1_git for blob in group if blob.hashes)
            for blob in group:
                self._note(blob, new)
                yield from self.writer.full("content")
            self.meter.add(len(group), sum(blob.located.file.length for blob in group))

    def _recall(self, tree: _Tree) -> None:
        """Fill in the ids of the files that did not change, as far as the archive has the contents."""
        contents = self.writer.new["content"].known
        remembered = self.cache.files(self.visits[tree.visit].origin, tree.release)
        while block := list(islice(remembered, _BATCH_ROWS)):
            lacking = set(contents.lacks([sha1_git.hex() for _, sha1_git in block]))
            files = size = 0
            for place, sha1_git in block:
                if sha1_git.hex() not in lacking:
                    tree.ids[place] = sha1_git
                    files += 1
                    size += tree.release.files[place].length
            self.meter.add(files, size)

    def _to_read(self) -> tuple[Iterator[Located], list[Located]]:
        """Give the files without an id: those up to the limit by extension, and the longer ones."""
        by_extension: dict[bytes, array[int]] = {}  # numbers of tree and file in turns: 16 bytes per file
        long: list[Located] = []
        for number, (_, release, ids) in enumerate(self.trees):
            for place, file in enumerate(release.files):
                if ids[place] is not None or file.perms == DIRECTORY:
                    continue
                if file.length > self.limits[0] and not file.problem:
                    long.append(_located(number, place, release))
                else:
                    by_extension.setdefault(_extension(file.path), array("q")).extend((number, place))
        long.sort(key=lambda located: (_extension(located.file.path), located.tree, located.place))

        def located() -> Iterator[Located]:
            for _, places in sorted(by_extension.items()):
                for tree, place in zip(places[::2], places[1::2], strict=True):
                    yield _located(tree, place, self.trees[tree].release)

        return located(), long

    def _note(self, blob: Blob, new: set[str]) -> None:
        """Keep the id of a file that was read; add its content, or why there is none, where that is new."""
        tree, place, _, file, _ = blob.located
        visit, _, ids = self.trees[tree]
        hashes = blob.hashes
        if hashes is not None:
            ids[place] = bytes.fromhex(hashes.sha1_git)
            if hashes.sha1_git not in new:
                return
            new.discard(hashes.sha1_git)
        elif not file.problem:
            self.unsettled.add(visit)
        if blob.problem or hashes is None:
            length = None if file.problem else file.length
            self.skipped[visit].append(
                (*(hashes or (*_NO_HASHES, length)), "absent", blob.problem, file.path)
            )
        else:
            self.writer.add("content", (*hashes, "visible", blob.data), len(blob.data or b""))

    def _snapshot(self, trees: list[_Tree]) -> Generator[Rows, None, str]:
        """Give directories, releases and the snapshot of a visit; return the snapshot's id."""
        writer = self.writer
        branches: dict[bytes, Branch] = {}
        for _, release, ids in trees:
            root = ""
            files = (
                (file.path, file.perms, (sha1_git or b"").hex())
                for file, sha1_git in zip(release.files, ids, strict=True)
                if sha1_git is not None or (file.perms == DIRECTORY and not file.problem)
            )
            for root, entries in build_directories(files):
                if writer.new["directory"].add(root):
                    writer.add("directory", (root, None))
                    for entry in entries:
                        writer.add("directory_entry", (root, *entry))
                    yield from writer.full("directory", "directory_entry")
            branches.setdefault(*_branch(release, root, writer))
        head = next(iter(branches))
        named = branches if b"HEAD" in branches else {b"HEAD": Branch("alias", head.hex()), **branches}
        identifier = snapshot_id(named)
        if writer.new["snapshot"].add(identifier):
            writer.add("snapshot", (identifier,))
            for name, branch in sorted(named.items()):
                writer.add("snapshot_branch", (identifier, name, branch.target, branch.target_type))
        return identifier

    def _visit(self, visit: Visit, status: str, snapshot: str | None, skipped: list[tuple[Any, ...]]) -> None:
        """Add the rows of a visit that found something else than the last one."""
        writer, url = self.writer, visit.origin
        last = writer.known.visits.get(url, LastVisit(0, "", None))
        if (last.status, last.snapshot) == (status, snapshot):
            return
        number = last.visit + 1
        if url not in writer.known.origins:
            writer.add("origin", (origin_id(url), url))
        writer.add("origin_visit", (url, number, writer.date, visit.type))
        writer.add("origin_visit_status", (url, number, writer.date, status, snapshot, visit.type))
        if visit.problem:
            skipped.append((*_NO_HASHES, None, "absent", visit.problem, None))
        for *row, path in dict.fromkeys(skipped):
            writer.add("skipped_content", (*row, url, path, number))


def _located(tree: int, place: int, release: Release) -> Located:
    file = release.files[place]
    path = f"{release.root}/{file.inode}" if release.numbered else local(release.root, file.path)
    return Located(tree, place, path, file, release.numbered)


def _extension(path: bytes) -> bytes:
    name = path.rpartition(b"/")[2].lower()
    return name.rpartition(b".")[2] if b"." in name[1:] else b""


def _branch(release: Release, root: str, writer: _Writer) -> tuple[bytes, Branch]:
    """Give the branch of a release, whose row is added where it is new."""
    if release.name is None:
        return b"HEAD", Branch("directory", root)
    identifier = release_id(release.name, root)
    if writer.new["release"].add(identifier):
        row = (identifier, release.name, None, root, "directory", None, None, None, None, None)
        writer.add("release", row)
    name = b"releases/" + release.name + (b"/" + release.artifact if release.artifact else b"")
    return name, Branch("release", identifier)


def _date(moment: datetime | None) -> dict[str, int] | None:
    if moment is None:
        return None
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return {"seconds": since // timedelta(seconds=1), "microseconds": moment.microsecond}
