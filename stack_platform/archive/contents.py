"""Read the bytes of chosen contents from Parquet files of the table ``content``.

Ids are read first, and the data of a row group only where it holds a wanted id. The graph writes contents ordered
by extension, so the files of one language cost the row groups of that language, not the archive. Batches are bounded
in bytes, and each content comes once, in the order of the files.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stack_platform.archive.swhid import object_id
from stack_platform.errors import SchemaError, SourceError

CONTENTS = pa.schema([("content_id", pa.string()), ("data", pa.large_binary())])

_ROWS = 1024  # rows decoded at a time


def read_contents(
    parquet_files: Sequence[str],
    content_ids: pa.Array | pa.ChunkedArray | None = None,
    verify: bool = False,
    batch_bytes: int = 16 << 20,
    allow_missing: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Yield batches (content_id, data) of at most `batch_bytes`, or of one content that is longer.

    `content_ids` are sha1_git in hexadecimal; None reads everything. Data is null where the archive knows a content
    without holding it. With `verify`, the bytes are hashed again.

    Raises:
        SourceError: a file cannot be read, an id is in none of the files (unless `allow_missing`), or bytes do
            not match their id.
        SchemaError: a file has no columns sha1_git and data.

    """
    wanted = None if content_ids is None else pc.unique(content_ids.cast(pa.string()).drop_null())
    batches = _chosen(parquet_files, wanted, allow_missing)
    return _bounded(map(_verified, batches) if verify else batches, batch_bytes)


def _chosen(
    parquet_files: Sequence[str], wanted: pa.Array | None, allow_missing: bool
) -> Iterator[pa.RecordBatch]:
    seen: set[str] = set()
    for path in parquet_files:
        try:
            with pq.ParquetFile(path, memory_map=True) as file:
                missing = {"sha1_git", "data"} - set(file.schema_arrow.names)
                if missing:
                    raise SchemaError(f"the contents {path} lack the columns {', '.join(sorted(missing))}")
                for group in range(file.num_row_groups):
                    yield from _row_group(file, group, wanted, seen)
        except (OSError, pa.ArrowInvalid) as error:
            raise SourceError(f"the contents {path} cannot be read: {error}") from error
    ids = [] if wanted is None or allow_missing else wanted.to_pylist()
    lost = [identifier for identifier in ids if identifier not in seen]
    if lost:
        raise SourceError(
            f"{len(lost)} of {len(ids)} contents are in none of {len(parquet_files)} files, first {lost[0]}; "
            "build the graph again, or pass allow_missing=True"
        )


def _row_group(
    file: pq.ParquetFile, group: int, wanted: pa.Array | None, seen: set[str]
) -> Iterator[pa.RecordBatch]:
    """Read the wanted rows of one row group that were not read before, and note them."""
    ids = file.read_row_group(group, columns=["sha1_git"])["sha1_git"].cast(pa.string())
    found = (
        ids.to_pylist()
        if wanted is None
        else pc.if_else(pc.is_in(ids, value_set=wanted), ids, None).to_pylist()
    )
    chosen: list[int] = []
    for row, identifier in enumerate(found):
        if identifier is not None and identifier not in seen:
            seen.add(identifier)
            chosen.append(row)
    if not chosen:
        return
    rows = np.array(chosen)
    start = 0
    for batch in file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=["data"]):
        here = rows[(rows >= start) & (rows < start + batch.num_rows)]
        if len(here):
            data = batch.column(0).take(pa.array(here - start)).cast(pa.large_binary())
            names = ids.take(pa.array(here)).combine_chunks()
            yield pa.RecordBatch.from_arrays([names, data], schema=CONTENTS)
        start += batch.num_rows


def _verified(batch: pa.RecordBatch) -> pa.RecordBatch:
    for identifier, data in zip(batch["content_id"].to_pylist(), batch["data"], strict=True):
        if data.is_valid:
            actual = object_id(b"blob", memoryview(data.as_buffer()))
            if actual != identifier:
                raise SourceError(
                    f"the bytes of content {identifier} hash to {actual}: the archive is damaged; build it again"
                )
    return batch


def _bounded(batches: Iterator[pa.RecordBatch], batch_bytes: int) -> Iterator[pa.RecordBatch]:
    """Cut and join batches, so that none but those of one row exceeds the limit."""
    pending: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        start = 0
        for row, length in enumerate(pc.fill_null(pc.binary_length(batch["data"]), 0).to_pylist()):
            if size and size + length > batch_bytes:
                yield pa.concat_batches([*pending, batch.slice(start, row - start)])
                pending, size, start = [], 0, row
            size += length
        pending.append(batch.slice(start))
    if pending:
        yield pa.concat_batches(pending)
