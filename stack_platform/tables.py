"""The lake: partitions of tables, committed whole or not at all.

A partition of a stage is a folder that holds Parquet files named by their content and a numbered manifest:

    <stage>/<partition>/<table>-<sha256, first 16 digits>.parquet      zstd, never changed once written
    <stage>/<partition>/_manifests/00000001.json                       written last, created, never replaced

1. A writer puts its Parquet files first and then creates manifest n + 1. Creation fails where the number is
   taken, on disk and on an object store alike, so of two writers one wins and the other gets ConflictError.
2. A reader takes the highest manifest and only the files it names: it sees the old partition or the new one,
   never a mixture. Old manifests stay, and with them the old partition, until `vacuum`.
3. Row groups are cut by the sizes of rows, not by the batches they came in, so the same rows give the same
   bytes.
4. The fingerprint names the inputs (upstream digests, configuration, version of the code) and lets a stage skip
   work that is done already.
"""

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
from obstore.exceptions import AlreadyExistsError, NotFoundError
from obstore.store import LocalStore, from_url

from stack_platform.errors import ConflictError, TableError
from stack_platform.manifests import DataFile, Manifest
from stack_platform.parquet import ParquetFiles

WHOLE = "all"  # the partition of a stage that is not partitioned


class Lake:
    """All partitions under one folder or object-store URL."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self.local = "://" not in self.root
        if self.local:
            Path(self.root).mkdir(parents=True, exist_ok=True)
            self.root = str(Path(self.root).resolve())
            self._store: Any = LocalStore(prefix=self.root)
        else:
            self._store = from_url(self.root)

    def __repr__(self) -> str:
        return f"Lake({self.root!r})"

    def latest(self, stage: str, partition: str = WHOLE) -> "Partition | None":
        """Open the newest committed version of a partition, or return None where there is none."""
        versions = self.versions(stage, partition)
        return self.at(stage, partition, versions[-1]) if versions else None

    def open(self, stage: str, partition: str = WHOLE) -> "Partition":
        """Open the newest committed version of a partition.

        Raises:
            TableError: it was never committed.

        """
        found = self.latest(stage, partition)
        if found is None:
            which = "" if partition == WHOLE else f" --partition {partition!r}"
            raise TableError(
                f"{stage}/{partition} is not in {self.root} yet; make it with: "
                f"dagster asset materialize -f assets/definitions.py --select {stage}{which}"
            )
        return found

    def at(self, stage: str, partition: str, version: int) -> "Partition":
        """Open one version of a partition.

        Raises:
            TableError: there is no such version.

        """
        key = f"{_folder(stage, partition)}/_manifests/{version:08d}.json"
        try:
            text = bytes(obstore.get(self._store, key).bytes()).decode()
        except (NotFoundError, FileNotFoundError) as error:
            raise TableError(f"{stage}/{partition} has no version {version}") from error
        return Partition(self, Manifest.from_json(text))

    def versions(self, stage: str, partition: str = WHOLE) -> list[int]:
        """List the committed versions of a partition, oldest first."""
        names = self._names(f"{_folder(stage, partition)}/_manifests")
        return sorted(int(name.removesuffix(".json")) for name in names if name.endswith(".json"))

    def partitions(self, stage: str) -> list[str]:
        """List the partitions of a stage that were ever committed, sorted."""
        listing = obstore.list_with_delimiter(self._store, f"{stage}/")
        found = [unquote(prefix.rstrip("/").rsplit("/", 1)[-1]) for prefix in listing["common_prefixes"]]
        return sorted(name for name in found if self.versions(stage, name))

    def writer(self, stage: str, partition: str = WHOLE, fingerprint: str = "") -> "PartitionWriter":
        """Start the next version of a partition; it appears when the `with` block ends without an error."""
        return PartitionWriter(self, stage, partition, fingerprint)

    def vacuum(self, keep: int = 1, pinned: Collection[str] = ()) -> list[str]:
        """Delete all but the newest `keep` versions of each partition and files that neither they nor `pinned` name.

        Not to be run while something writes: what a writer has put and not yet committed is deleted too.
        """
        keys = [str(entry["path"]) for chunk in obstore.list(self._store) for entry in chunk]
        folders = sorted({key.rsplit("/_manifests/", 1)[0] for key in keys if "/_manifests/" in key})
        removed = [key for folder in folders for key in self._stale(folder, keys, keep) if key not in pinned]
        if removed:
            obstore.delete(self._store, removed)
        if self.local:
            for leftover in Path(self.root).glob(".writing-*"):
                shutil.rmtree(leftover, ignore_errors=True)
        return removed

    def _stale(self, folder: str, keys: list[str], keep: int) -> list[str]:
        """Name a partition's old manifests and the data files that only they name."""
        manifests = sorted(key for key in keys if key.startswith(f"{folder}/_manifests/"))
        old = manifests[: max(len(manifests) - keep, 0)]
        named: set[str] = set()
        for key in manifests[len(old) :]:
            manifest = Manifest.from_json(bytes(obstore.get(self._store, key).bytes()).decode())
            named |= {file.path for files in manifest.tables.values() for file in files}
        data = [key for key in keys if key.endswith(".parquet") and key.rsplit("/", 1)[0] == folder]
        return old + [key for key in data if key not in named]

    def source(self, path: str) -> Any:
        """Return what pyarrow reads a data file from: a local path, or an open object."""
        return (
            str(Path(self.root, path)) if self.local else _RemoteFile(obstore.open_reader(self._store, path))
        )

    def sha256(self, path: str) -> str:
        """Compute the SHA-256 of a stored file, reading it in pieces.

        Raises:
            TableError: the file is gone.

        """
        state = hashlib.sha256()
        try:
            for chunk in obstore.get(self._store, path).stream(min_chunk_size=4 << 20):
                state.update(chunk)
        except (NotFoundError, FileNotFoundError) as error:
            raise TableError(f"{path} is named by a manifest and is not in {self.root}") from error
        return state.hexdigest()

    def put_new(self, key: str, data: bytes) -> None:
        """Create an object that must not exist yet, durably.

        Raises:
            ConflictError: it exists.

        """
        try:
            obstore.put(self._store, key, data, mode="create")
        except AlreadyExistsError as error:
            raise ConflictError(f"{key} exists already in {self.root}") from error
        self._sync(key)

    def put_file(self, key: str, source: Path) -> None:
        """Copy a local file to an object named by its content; what is there already is left alone."""
        if not self._exists(key):
            obstore.put(self._store, key, source)
            self._sync(key)

    def get(self, key: str) -> bytes | None:
        """Read an object whole, or return None where there is none."""
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except (NotFoundError, FileNotFoundError):
            return None

    def names(self, prefix: str) -> list[str]:
        """List the objects directly under a prefix, by their last name, sorted."""
        return sorted(self._names(prefix))

    def _names(self, prefix: str) -> list[str]:
        listing = obstore.list_with_delimiter(self._store, f"{prefix}/")
        return [str(entry["path"]).rsplit("/", 1)[-1] for entry in listing["objects"]]

    def _exists(self, key: str) -> bool:
        try:
            obstore.head(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    def _sync(self, key: str) -> None:
        """Flush a local file and its folder, so that a manifest never outlives the files it names."""
        if not self.local:
            return
        path = Path(self.root, key)
        for target in (path, path.parent):
            descriptor = os.open(target, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@dataclass(frozen=True)
class Partition:
    """One committed version of a partition, read through its manifest."""

    lake: Lake
    manifest: Manifest

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return self.manifest.digest

    def sources(self, table: str) -> list[Any]:
        """Return what pyarrow and DuckDB read the table's files from, in order."""
        return [self.lake.source(f.path) for f in self.manifest.tables.get(table, ())]

    def read(
        self, table: str, columns: Sequence[str] | None = None, schema: pa.Schema | None = None
    ) -> pa.Table:
        """Read a table, or some of its columns, into memory.

        Raises:
            TableError: the partition has no such table and no schema was given for an empty one.

        """
        parts = [pq.ParquetFile(source).read(columns) for source in self.sources(table)]
        if parts:
            return pa.concat_tables(parts)
        if schema is None:
            known = ", ".join(self.manifest.tables) or "none"
            raise TableError(
                f"{self.manifest.stage}/{self.manifest.partition} has no table {table!r}; it has: {known}"
            )
        return (schema if columns is None else pa.schema([schema.field(c) for c in columns])).empty_table()

    def schema(self, table: str) -> pa.Schema:
        """Give a table's columns and types; a table that is not there has none."""
        return next((pq.ParquetFile(source).schema_arrow for source in self.sources(table)), pa.schema([]))

    def batches(self, table: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream a table, holding one row group at a time."""
        for source in self.sources(table):
            file = pq.ParquetFile(source)
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group, columns).to_batches()


class PartitionWriter:
    """Collects the tables of one partition and commits them together.

    Use as a context manager: leaving it normally commits, leaving it with an error writes no manifest.
    `committed` then holds the partition. Writing what is there already commits nothing new, unless the
    fingerprint changed.
    """

    def __init__(self, lake: Lake, stage: str, partition: str, fingerprint: str) -> None:
        self.counts: dict[str, Any] = {}
        self.committed: Partition | None = None
        self._lake, self._stage, self._partition = lake, stage, partition
        self._fingerprint = fingerprint
        self._base = lake.latest(stage, partition)
        self._tables: dict[str, ParquetFiles] = {}
        self._carried: Mapping[str, tuple[DataFile, ...]] = {}
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        where = self._lake.root if self._lake.local else None
        self._folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=where))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._folder is not None
        try:
            if kind is None:
                self._commit()
        finally:
            for table in self._tables.values():
                table.abandon()
            shutil.rmtree(self._folder, ignore_errors=True)

    def carry(self, version: Partition) -> None:
        """Take over all files of an earlier version of this partition; what is appended comes after them."""
        self._carried = version.manifest.tables

    def append(self, table: str, rows: pa.RecordBatch | pa.Table) -> None:
        """Add rows to a table of the partition; the first call fixes its schema.

        Raises:
            TableError: the rows have another schema than the table, or the disk is full.

        """
        assert self._folder is not None, "use the writer in a with statement"
        if table not in self._tables:
            self._tables[table] = ParquetFiles(self._folder, _safe(table), rows.schema)
        try:
            self._tables[table].append(
                pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
            )
        except OSError as error:
            raise TableError(
                f"cannot write {self._stage}/{self._partition}: {error}; nothing of it was committed"
            ) from error

    def _commit(self) -> None:
        folder = _folder(self._stage, self._partition)
        tables = dict(self._carried)
        try:
            for name, table in sorted(self._tables.items()):
                files = []
                for path, rows in table.finish():
                    sha256 = _sha256_of(path)
                    key = f"{folder}/{_safe(name)}-{sha256[:16]}.parquet"
                    self._lake.put_file(key, path)
                    files.append(DataFile(key, sha256, path.stat().st_size, rows))
                    path.unlink()
                tables[name] = (*tables.get(name, ()), *files)
        except OSError as error:
            raise TableError(f"cannot write {folder}: {error}; nothing of it was committed") from error
        version = self._base.manifest.version + 1 if self._base else 1
        made = Manifest(self._stage, self._partition, version, self._fingerprint, tables, self.counts)
        if (
            self._base
            and self._base.digest == made.digest
            and self._base.manifest.fingerprint == self._fingerprint
        ):
            self.committed = self._base
            return
        try:
            self._lake.put_new(f"{folder}/_manifests/{version:08d}.json", made.to_json().encode())
        except ConflictError as error:
            other = self._lake.at(self._stage, self._partition, version)
            if other.digest != made.digest:
                raise ConflictError(
                    f"{self._stage}/{self._partition} was committed by another run meanwhile "
                    f"(version {version}); run this one again to build on it"
                ) from error
        self.committed = Partition(self._lake, made)


class _RemoteFile(io.RawIOBase):
    """An object as a Python file that can be read from anywhere in it."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        return bytes(self._reader.read() if size is None or size < 0 else self._reader.read(size))

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _safe(name: str) -> str:
    return quote(name, safe=" ")


def _folder(stage: str, partition: str) -> str:
    return f"{stage}/{_safe(partition)}"
