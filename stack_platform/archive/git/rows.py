"""Rows on their way into record batches, and what of a repository's objects the archive holds already."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from stack_platform.archive.sources import IdSet, Known, Rows
from stack_platform.schemas import ARCHIVE

_BATCH_ROWS = 16_384
_ENTRY_ROWS = 1 << 17  # entries of directories are short and many


class Batches:
    """Columns of the archive's tables that wait to become batches."""

    def __init__(self) -> None:
        self._columns: dict[str, list[list[Any]]] = {}
        self._bytes: dict[str, int] = {}

    def add(self, table: str, row: Sequence[Any], size: int = 0) -> None:
        """Add a row; `size` counts the bytes that make a batch full."""
        columns = self._columns.setdefault(table, [[] for _ in ARCHIVE[table]])
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        self._bytes[table] = self._bytes.get(table, 0) + size

    def extend(self, table: str, values: Sequence[Sequence[Any]]) -> None:
        """Add rows as columns."""
        columns = self._columns.setdefault(table, [[] for _ in ARCHIVE[table]])
        for column, more in zip(columns, values, strict=True):
            column.extend(more)

    def full(self, batch_bytes: int) -> Iterator[Rows]:
        """Give the batches that are full."""
        for table, columns in self._columns.items():
            limit = _ENTRY_ROWS if table == "directory_entry" else _BATCH_ROWS
            if len(columns[0]) >= limit or self._bytes.get(table, 0) >= batch_bytes:
                yield self._take(table)

    def rest(self) -> Iterator[Rows]:
        """Give all batches."""
        for table in self._columns:
            if self._columns[table][0]:
                yield self._take(table)

    def _take(self, table: str) -> Rows:
        schema = ARCHIVE[table]
        columns = zip(self._columns[table], schema, strict=True)
        arrays = [pa.array(column, field.type) for column, field in columns]
        self._columns[table] = [[] for _ in schema]
        self._bytes[table] = 0
        return table, pa.RecordBatch.from_arrays(arrays, schema=schema)


class Held:
    """Ids that the archive has, and those that this reading gave: of the present origin and of those before."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._sets: dict[str, list[IdSet]] = {}
        self._given: dict[str, list[str]] = {}
        self.closed = all(last.status != "partial" for last in known.visits.values())
        """whether a known object's children are known, too"""

    def lacks(self, table: str, ids: Sequence[str]) -> list[str]:
        """Give the ids that neither the archive nor an earlier origin's reading has, in their order."""
        if table not in self._sets:
            self._sets[table] = [self._known.contents if table == "content" else self._known.ids(table)]
        for held in self._sets[table]:
            ids = held.lacks(ids)
        return list(ids)

    def add(self, table: str, identifier: str) -> None:
        """Note an object of the present origin as given."""
        self._given.setdefault(table, []).append(identifier)

    def end_origin(self, complete: bool) -> None:
        """Make what the present origin gave count as held by the next ones."""
        for table, ids in self._given.items():
            self._sets[table].append(IdSet(pa.chunked_array([pa.array(ids, pa.string())])))
        self._given.clear()
        self.closed = self.closed and complete
