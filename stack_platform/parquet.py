"""Cut a table's rows into row groups and files by the sizes of the rows only.

The batches rows arrive in do not matter, so the same rows give the same bytes whatever computed them. Row groups
are small enough that a reader of a few files decodes little else.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stack_platform.errors import TableError

ROW_GROUP_BYTES = 8 << 20  # uncompressed
ROW_GROUP_ROWS = 65_536
ROW_GROUPS_PER_FILE = 32
ZSTD_LEVEL = 3  # 9 takes four times as long for a seventh less space


class ParquetFiles:
    """The Parquet files of one table, written into a folder in the order the rows come."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema) -> None:
        self._folder, self._name, self._schema = folder, name, schema
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._waiting_rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._groups = 0
        self._done: list[tuple[Path, int]] = []
        self._rows = 0

    def append(self, rows: pa.Table) -> None:
        """Add rows, cutting a row group whenever enough of them wait.

        Raises:
            TableError: the rows have another schema than the table.

        """
        if rows.schema != self._schema:
            raise TableError(
                f"table {self._name!r} has the schema\n{self._schema}\nand was given\n{rows.schema}"
            )
        sizes = np.cumsum(_row_bytes(rows))
        start = 0
        while start < rows.num_rows:
            offset = int(sizes[start - 1]) if start else 0
            room = ROW_GROUP_BYTES - self._waiting_bytes
            end = int(np.searchsorted(sizes, offset + room, side="left")) + 1
            end = min(end, start + ROW_GROUP_ROWS - self._waiting_rows, rows.num_rows)
            self._waiting.append(rows.slice(start, end - start))
            self._waiting_bytes += int(sizes[end - 1]) - offset
            self._waiting_rows += end - start
            if self._waiting_bytes >= ROW_GROUP_BYTES or self._waiting_rows >= ROW_GROUP_ROWS:
                self._flush()
            start = end

    def finish(self) -> list[tuple[Path, int]]:
        """Write what waits and give each file's path and rows; a table without rows is one file with its schema."""
        if self._waiting or not (self._done or self._writer):
            self._flush()
        self._close()
        return self._done

    def abandon(self) -> None:
        """Close the file being written, which nobody will read."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _flush(self) -> None:
        if self._writer is None:
            path = self._folder / f"{self._name}-{len(self._done)}"
            self._done.append((path, 0))
            self._writer = pq.ParquetWriter(
                path, self._schema, compression="zstd", compression_level=ZSTD_LEVEL
            )
        table = pa.concat_tables(self._waiting) if self._waiting else self._schema.empty_table()
        self._writer.write_table(table.combine_chunks(), row_group_size=ROW_GROUP_ROWS)
        self._groups += 1
        self._rows += table.num_rows
        self._waiting, self._waiting_bytes, self._waiting_rows = [], 0, 0
        if self._groups == ROW_GROUPS_PER_FILE:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._done[-1] = (self._done[-1][0], self._rows)
            self._writer, self._groups, self._rows = None, 0, 0


def _row_bytes(rows: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Estimate each row's uncompressed size: lengths of texts and bytes, and 8 for every other value."""
    sizes = np.full(rows.num_rows, 8 * rows.num_columns, dtype=np.int64)
    for column in rows.columns:
        kind = column.type
        if (
            pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_binary(kind)
            or pa.types.is_large_binary(kind)
        ):
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy().astype(np.int64)
    return sizes
