"""Read the texts of files from the graph, where every content is stored once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stack_platform.archive.contents import read_contents
from stack_platform.corpus.graph import open_graph
from stack_platform.engine.stages import Texts
from stack_platform.languages.encoding import decode
from stack_platform.tables import Lake

BATCH_BYTES = 4 << 20  # of texts at a time; a worker holds a few times as much, larger ones are not faster


def text_reader(lake: Lake) -> Texts:
    """Make the function that stages read texts with.

    It takes files (columns content_id, src_encoding) and gives batches of content_id and content (large_string),
    every content once, in the order they are stored in.
    """

    def read(files: pa.Table) -> Iterator[pa.RecordBatch]:
        ids = files["content_id"].unique()
        strange = files.filter(pc.not_equal(files["src_encoding"], "utf-8"))
        encodings = dict(
            zip(strange["content_id"].to_pylist(), strange["src_encoding"].to_pylist(), strict=True)
        )
        for batch in read_contents(open_graph(lake).sources("content"), ids, batch_bytes=BATCH_BYTES):
            yield pa.record_batch({"content_id": batch["content_id"], "content": _decode(batch, encodings)})

    return read


def _decode(batch: pa.RecordBatch, encodings: dict[str, str]) -> pa.Array:
    ids = batch["content_id"].to_pylist()
    if encodings.keys().isdisjoint(ids):
        return batch["data"].cast(pa.large_string())
    texts = [
        decode(data.as_py(), encodings.get(content_id, "utf-8"))
        for content_id, data in zip(ids, batch["data"], strict=True)
    ]
    return pa.array(texts, pa.large_string())


class FilesByContent:
    """Finds the rows of a file table that have a batch's contents, in time logarithmic in the rows."""

    def __init__(self, files: pa.Table) -> None:
        self._files = files.combine_chunks()
        ids = files["content_id"].cast(pa.binary()).to_numpy(zero_copy_only=False).astype("S40")
        self._order = np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]

    def join(self, contents: pa.RecordBatch) -> pa.RecordBatch:
        """Repeat each content for every file that has it; columns: those of the files and of the contents."""
        wanted = contents["content_id"].cast(pa.binary()).to_numpy(zero_copy_only=False).astype("S40")
        first = np.searchsorted(self._sorted, wanted, side="left")
        last = np.searchsorted(self._sorted, wanted, side="right")
        copies = last - first
        starts = np.cumsum(copies) - copies
        rows = self._order[np.arange(copies.sum()) + np.repeat(first - starts, copies)]
        which = np.repeat(np.arange(len(wanted)), copies)
        columns: dict[str, Any] = {name: self._files[name].take(rows) for name in self._files.column_names}
        for name in contents.schema.names:
            if name != "content_id":
                columns[name] = contents[name].take(which)
        return (
            pa.table(columns).combine_chunks().to_batches()[0] if len(rows) else _empty(self._files, contents)
        )


def _empty(files: pa.Table, contents: pa.RecordBatch) -> pa.RecordBatch:
    fields = [contents.schema.field(name) for name in contents.schema.names if name != "content_id"]
    return pa.RecordBatch.from_pylist([], pa.schema([*files.schema, *fields]))
