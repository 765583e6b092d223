"""Find rows in the tables of a Software Heritage export, by key, without loading a table.

An export is laid out as ``<root>/{parquet|orc}/<table>/<table>-<uuid>.{parquet|orc}`` or without the middle folder;
both formats give the same rows. The key column of a row group (ORC: stripe) is read first, and the other columns
only where it holds a sought key, so that looking for few objects reads one column of the table. Every lookup is
one pass over the files, a few at a time; results come in the order of the files. Keys are compared by 64 bits of
the id first (10 million rows per second and core) and then exactly.
"""

import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from stack_platform.archive.export.orc_tables import OrcStripes
from stack_platform.archive.remote import ObjectFile, StoredFile, folders_and_files
from stack_platform.errors import SchemaError, SourceError
from stack_platform.schemas import ARCHIVE, DATE

FORMATS = ("parquet", "orc")

_NEEDED = ("origin_visit_status", "snapshot_branch", "release", "revision", "directory_entry", "content")
_OPTIONAL = frozenset(
    {
        *("type", "raw_manifest", "date_raw_offset_bytes", "committer_date_raw_offset_bytes", "data"),
        *("sha256", "blake2s256", "status", "reason", "origin", "path", "visit"),
    }
)
_ESSENTIAL = {"origin_visit_status": {"origin", "visit", "status"}, "directory_entry": {"type"}}


class Keys(Protocol):
    """Values of a column that are sought."""

    def match(self, column: pa.Array) -> np.ndarray:
        """Tell which rows have a sought value."""


class HexKeys:
    """Ids of 40 hexadecimal digits."""

    def __init__(self, ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> None:
        values = ids if isinstance(ids, (pa.Array, pa.ChunkedArray)) else pa.array(ids, pa.string())
        self._ids = np.unique(np.array(values.to_pylist(), "S40"))
        self._mixed = np.sort(_mix(self._ids.view(np.uint8).reshape(-1, 40)))

    def __len__(self) -> int:
        return len(self._ids)

    def match(self, column: pa.Array) -> np.ndarray:
        """Tell which rows have a sought id."""
        lengths = pc.binary_length(column)
        if not len(column) or not len(self._ids):
            return np.zeros(len(column), bool)
        if column.null_count or pc.min_max(lengths).as_py() != {"min": 40, "max": 40}:
            sought = pa.array(self._ids.astype(str).tolist(), pa.string())
            return np.asarray(pc.is_in(column.cast(pa.string()), value_set=sought))
        text = column.cast(pa.string())
        first = int.from_bytes(memoryview(text.buffers()[1])[text.offset * 4 :][:4], "little")
        digits = np.frombuffer(text.buffers()[2], np.uint8)[first : first + 40 * len(text)].reshape(-1, 40)
        mask = _within(_mix(digits), self._mixed)
        rows = np.flatnonzero(mask)
        exact = np.ascontiguousarray(digits[rows]).view("S40").ravel()
        mask[rows] = _within(exact, self._ids)
        return mask


def _mix(digits: np.ndarray) -> np.ndarray:
    """Mix the last 16 digits of each row into 64 bits."""
    words = np.ascontiguousarray(digits[:, 24:]).view(np.uint64)
    mixed: np.ndarray = words[:, 0] * np.uint64(0x9E3779B97F4A7C15) + words[:, 1]
    return mixed


def _within(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    places = np.searchsorted(ordered, values).clip(max=len(ordered) - 1)
    found: np.ndarray = ordered[places] == values
    return found


class UrlKeys:
    """URLs of origins: exact ones, patterns in which ``*`` stands for anything, or (none given) all."""

    def __init__(self, patterns: Iterable[str]) -> None:
        given = list(patterns)
        self.exact = frozenset(pattern for pattern in given if "*" not in pattern)
        globs = [".*".join(map(re.escape, pattern.split("*"))) for pattern in given if "*" in pattern]
        self._globs = re.compile("|".join(globs), re.DOTALL) if globs else None
        self._all = not given

    def wants(self, url: str | None) -> bool:
        """Tell whether one URL is sought."""
        if url is None:
            return False
        return self._all or url in self.exact or bool(self._globs and self._globs.fullmatch(url))

    def match(self, column: pa.Array) -> np.ndarray:
        """Tell which rows have a sought URL."""
        distinct = column.cast(pa.string()).dictionary_encode()
        wanted = np.array([*map(self.wants, distinct.dictionary.to_pylist()), False])
        rows: np.ndarray = wanted[np.asarray(distinct.indices.fill_null(len(wanted) - 1))]
        return rows


class ExportTables:
    """The tables of one export.

    Raises:
        SourceError: nothing is there, or it is no export, or a table is missing.

    """

    def __init__(self, store: ObjectStore, name: str, form: str = "auto") -> None:
        """Find the files; `name` is what messages call the export."""
        self._store, self._name = store, name
        folders, files = folders_and_files(store)
        if not folders and not files:
            raise SourceError(f"{name} lists nothing; check its name, or download the export there")
        self.form, prefix = _form(folders, form, name)
        tables = folders_and_files(store, prefix)[0] if prefix else folders
        self.files: dict[str, list[StoredFile]] = {}
        for table in sorted(set(tables) & set(ARCHIVE)):
            found = folders_and_files(store, f"{prefix}{table}/")[1]
            kept = [file for file in found if file.path.endswith(FORMATS) and file.size]
            if kept:
                self.files[table] = kept
        missing = [table for table in _NEEDED if table not in self.files]
        if missing:
            raise SourceError(
                f"{name} has no table {', '.join(missing)}; it has {', '.join(sorted(self.files)) or 'none'}; "
                "download the missing ones, or name the folder that holds `parquet` or `orc`"
            )

    def digest(self) -> str:
        """Digest what the listing says: names, sizes and ETags."""
        return hashlib.sha256(repr(sorted(self.files.items())).encode()).hexdigest()

    def lookup(self, table: str, key: str, keys: Keys, threads: int = 1) -> Iterator[pa.RecordBatch]:
        """Give the rows of a table whose key is sought, in the archive's schema; none where the table is missing.

        `data` is null here: see `contents`.

        Raises:
            SourceError: a file cannot be read.
            SchemaError: a file lacks a column.

        """
        columns = [name for name in ARCHIVE[table].names if name != "data"]
        find = partial(self._in_file, table, key, keys, columns)
        with ThreadPoolExecutor(threads, thread_name_prefix="export") as pool:
            waiting = iter(self.files.get(table, ()))
            under_way: deque[Future[list[pa.RecordBatch]]] = deque(
                pool.submit(find, file) for file in islice(waiting, 2 * threads)
            )
            while under_way:
                yield from under_way.popleft().result()
                under_way.extend(pool.submit(find, file) for file in islice(waiting, 1))

    def contents(self, keys: Keys) -> Iterator[pa.RecordBatch]:
        """Give (sha1_git, length, data) of the contents whose bytes the export holds."""
        for file in self.files["content"]:
            for batch in self._groups("content", file, "sha1_git", keys, ["sha1_git", "length", "data"]):
                held = batch.filter(pc.is_valid(batch.column(2)))
                if held.num_rows:
                    yield held

    def holds_data(self) -> bool:
        """Tell whether the table of contents has a column for the bytes."""
        with _errors(self._name, self.files["content"][0]):
            return "data" in self._open(self.files["content"][0]).schema.names

    def _in_file(
        self, table: str, key: str, keys: Keys, columns: Sequence[str], file: StoredFile
    ) -> list[pa.RecordBatch]:
        return list(self._groups(table, file, key, keys, columns))

    def _open(self, file: StoredFile) -> "OrcStripes | _RowGroups":
        stream = cast("BinaryIO", ObjectFile(self._store, file))
        return OrcStripes(stream) if file.path.endswith(".orc") else _RowGroups(stream)

    def _groups(
        self, table: str, file: StoredFile, key: str, keys: Keys, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        with _errors(self._name, file):
            groups = self._open(file)
            held = set(groups.schema.names)
            optional = _OPTIONAL - _ESSENTIAL.get(table, set())
            missing = [name for name in columns if name not in held and name not in optional]
            if missing:
                raise SchemaError(
                    f"{file.path} of {self._name} lacks the columns {', '.join(missing)}; it has "
                    f"{', '.join(groups.schema.names)}"
                )
            others = [name for name in columns if name in held and name != key]
            for group in range(groups.count):
                found = groups.read(group, [key])[key].combine_chunks()
                rows = np.flatnonzero(keys.match(found))
                if len(rows):
                    rest = groups.read(group, others).take(rows)
                    yield _conformed(table, columns, {key: found.take(pa.array(rows))}, rest)


def _form(folders: list[str], form: str, name: str) -> tuple[str, str]:
    """Find which format an export has, and the prefix of its tables."""
    there = [kind for kind in FORMATS if kind in folders]
    if form != "auto" and there:
        if form not in there:
            raise SourceError(f"{name} holds {', '.join(there)} but not {form}; choose another format")
        return form, f"{form}/"
    if there:
        return there[0], f"{there[0]}/"
    if not set(folders) & set(ARCHIVE):
        raise SourceError(
            f"{name} holds {', '.join(folders) or 'only files'} but none of the tables of an export; name the folder "
            "that holds `parquet` or `orc`"
        )
    return form, ""


class _RowGroups:
    """The row groups of a Parquet file, in the form of `OrcStripes`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._file = pq.ParquetFile(stream, pre_buffer=True)
        self.schema: pa.Schema = self._file.schema_arrow
        self.count: int = self._file.num_row_groups

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        return self._file.read_row_group(group, columns=list(columns), use_threads=False)


class _errors:  # noqa: N801  a context manager, named as one
    def __init__(self, name: str, file: StoredFile) -> None:
        self._what = f"{file.path} of {name}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, pa.ArrowException, BaseError, RuntimeError)):
            raise SourceError(
                f"{self._what} cannot be read: {str(error).strip().partition(chr(10))[0]}; download it again"
            ) from error


def _conformed(table: str, columns: Sequence[str], keys: dict[str, Any], rest: pa.Table) -> pa.RecordBatch:
    """Give rows the types of the archive; columns that older exports lack are null."""
    schema = pa.schema([ARCHIVE[table].field(name) for name in columns])
    arrays = []
    for field in schema:
        column = keys.get(field.name, rest[field.name] if field.name in rest.column_names else None)
        if column is None:
            arrays.append(pa.nulls(rest.num_rows, field.type))
        elif field.type == DATE:
            arrays.append(_date(column.combine_chunks()))
        else:
            whole = column.cast(field.type)
            arrays.append(whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _date(array: pa.Array) -> pa.Array:
    """Turn timestamps of any unit, and seconds with microseconds, into seconds with microseconds."""
    missing = array.is_null()
    if pa.types.is_struct(array.type):
        parts = [array.field("seconds").cast(pa.int64()), array.field("microseconds").cast(pa.uint32())]
    elif pa.types.is_timestamp(array.type):
        per_second = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}[array.type.unit]
        ticks = np.asarray(array.cast(pa.int64()).fill_null(0))
        seconds, rest = np.divmod(ticks, per_second)
        microseconds = rest * 1_000_000 // per_second if per_second <= 1_000_000 else rest // 1000
        parts = [pa.array(seconds, pa.int64()), pa.array(microseconds.astype(np.uint32))]
    else:
        return array.cast(DATE)  # only nulls can be
    return pa.StructArray.from_arrays(parts, fields=list(DATE), mask=missing)
