"""The stored index of a language: every file's signature and what was decided about it, for the next snapshot.

Rows are in order of priority. A new snapshot signs only the files that are new and compares them with what is
kept; files that were kept stay kept. A file that is gone takes its row with it, and if it was kept, the files
it had displaced are decided again, together with the new ones and in their order of preference. All others keep
their decision, and it is what a run from the beginning would decide about the files in the order of the new
index's rows: their kept predecessors are the same. Settings are in the schema's metadata, and an index made with
others is refused.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stack_platform.dedup.bands import colliding
from stack_platform.dedup.config import NearDuplicateConfig
from stack_platform.dedup.leaders import NEAR_DUPLICATES, sign_and_select
from stack_platform.dedup.scratch import ShingleFile
from stack_platform.dedup.selection import Selection, select
from stack_platform.dedup.signatures import Places, Read, Signatures, distinct_ids, lay_sets_aside, sign_files
from stack_platform.errors import TableError

_SETTINGS = b"near_duplicates"


def index_schema(config: NearDuplicateConfig = NearDuplicateConfig()) -> pa.Schema:
    """Return the columns of an index, with the settings in the metadata."""
    return pa.schema(
        [
            ("blob_id", pa.string()),
            ("tokens", pa.int32()),
            ("bands", pa.binary(4 * config.bands)),  # a key of 32 bits for each, little-endian
            ("lanes", pa.binary(config.num_perm)),  # the low 8 bits of each
            ("witness", pa.string()),  # null where the file is kept
            ("jaccard", pa.float64()),
        ],
        metadata={_SETTINGS: json.dumps(config.meaning, sort_keys=True)},
    )


def build_index(
    blob_ids: pa.Array | pa.ChunkedArray,
    read: Read,
    config: NearDuplicateConfig = NearDuplicateConfig(),
    *,
    threads: int = 1,
) -> pa.Table:
    """Sign and decide all files, as `find_near_duplicates` does, and return the index.

    Raises:
        SchemaError: a column has a wrong type, or a blob_id is null.
        SourceError: `read` left out a file, or gave other contents the second time.

    """
    places = Places(blob_ids)
    signed, found = sign_and_select(places, read, config, threads)
    return _rows(places.ids, signed, _names(places.ids, found), found.jaccards, config)


def near_duplicates_of(index: pa.Table) -> pa.Table:
    """Return the files that leave: blob_id, witness, jaccard, in the order of the index."""
    gone = index.filter(pc.is_valid(index["witness"]))
    return gone.select(NEAR_DUPLICATES.names).cast(NEAR_DUPLICATES).combine_chunks()


def update_index(
    index: pa.Table,
    blob_ids: pa.Array | pa.ChunkedArray,
    read: Read,
    config: NearDuplicateConfig = NearDuplicateConfig(),
    *,
    threads: int = 1,
) -> pa.Table:
    """Bring an index up to the files there are now, given in order of preference.

    `read(ids)` is asked for the new files, and for the candidates among the undecided and the kept files they
    may resemble; never for all. Rows of files that stay as they were come first, in their order.

    Raises:
        SchemaError: a column has a wrong type, or a blob_id is null.
        SourceError: `read` left out a file, or gave other contents the second time.
        TableError: the index was made with other settings.

    """
    check_index(index, config)
    now = distinct_ids(blob_ids)
    retained, displaced, undecided = _divide(index, now)
    if not len(undecided):
        return retained
    signed = _sign_rest(Places(undecided), displaced, read, config, threads)
    rivals = _rivals(retained, signed, config)
    places = Places(pa.concat_arrays([_one(rivals["blob_id"]), undecided]))
    both = _concat(signatures_of(rivals, config), signed)

    def lay(sets: ShingleFile, wanted: NDArray[np.int64]) -> None:
        batches = read(places.ids.take(pa.array(wanted)))
        lay_sets_aside(sets, places, wanted, both.tokens, batches, config, threads)

    found = select(both, np.arange(len(places)) < rivals.num_rows, lay, config, threads)
    names = _names(places.ids, found).slice(rivals.num_rows)
    rows = _rows(undecided, signed, names, found.jaccards[rivals.num_rows :], config)
    return pa.concat_tables([retained, rows])


def fits(index: pa.Table, config: NearDuplicateConfig) -> bool:
    """Tell whether a table is an index that was made with these settings."""
    stated = (index.schema.metadata or {}).get(_SETTINGS, b"{}")
    return bool(index.schema.equals(index_schema(config))) and json.loads(stated) == config.meaning


def check_index(index: pa.Table, config: NearDuplicateConfig) -> None:
    """Refuse an index that was made with other settings, or is none.

    Raises:
        TableError: it is.

    """
    if not fits(index, config):
        stated = (index.schema.metadata or {}).get(_SETTINGS, b"none").decode()
        raise TableError(
            f"the index of near duplicates was made with the settings {stated}, asked for are "
            f"{json.dumps(config.meaning, sort_keys=True)}; build it anew with build_index"
        )


def _divide(index: pa.Table, now: pa.Array) -> tuple[pa.Table, pa.Table, pa.Array]:
    """Return the rows that stay as they are, those of files that lost their witness, and the ids to decide."""
    rows = pc.index_in(now, value_set=_one(index["blob_id"])).fill_null(-1).to_numpy().astype(np.int64)
    new = rows < 0
    present = np.zeros(index.num_rows, np.bool_)
    present[rows[~new]] = True
    if present.all():
        return index, index.slice(0, 0), now.filter(pa.array(new))
    gone = _one(index["blob_id"].filter(pa.array(~present)))
    lost = pc.is_in(index["witness"], gone, skip_nulls=True).combine_chunks().to_numpy(zero_copy_only=False)
    displaced = present & lost
    undecided = new | displaced[rows]
    return (
        index.filter(pa.array(present & ~displaced)),
        index.filter(pa.array(displaced)),
        now.filter(pa.array(undecided)),
    )


def _sign_rest(
    places: Places, known: pa.Table, read: Read, config: NearDuplicateConfig, threads: int
) -> Signatures:
    """Sign the files whose signature is not known."""
    signed = Signatures.empty(len(places), config)
    signed.put(places.find(_one(known["blob_id"])), signatures_of(known, config))
    new = np.flatnonzero(signed.tokens < 0)
    if new.size:
        names = places.ids.take(pa.array(new))
        signed.put(new, sign_files(Places(names), read(names), config, threads))
    return signed


def _rivals(retained: pa.Table, signed: Signatures, config: NearDuplicateConfig) -> pa.Table:
    """Return the kept rows that share a band with an undecided file."""
    others = signed.keys[signed.tokens >= config.min_tokens]
    parts = []
    for batch in retained.to_batches():
        kept = pc.and_(
            pc.is_null(batch["witness"]), pc.greater_equal(batch["tokens"], config.min_tokens)
        ).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(kept)
        keys = _matrix(batch["bands"], np.uint32)
        parts.append(batch.take(pa.array(rows[colliding(keys, rows, others)])))
    return pa.Table.from_batches(parts, retained.schema)


def signatures_of(rows: pa.Table, config: NearDuplicateConfig) -> Signatures:
    """Read the signatures of rows of an index."""
    signed = Signatures.empty(rows.num_rows, config)
    start = 0
    for batch in rows.to_batches():
        part = slice(start, start + batch.num_rows)
        signed.tokens[part] = batch["tokens"].to_numpy()
        signed.keys[part] = _matrix(batch["bands"], np.uint32)
        signed.lanes[part] = _matrix(batch["lanes"], np.uint8)
        start += batch.num_rows
    return signed


def _concat(one: Signatures, other: Signatures) -> Signatures:
    return Signatures(
        np.concatenate([one.tokens, other.tokens]),
        np.concatenate([one.keys, other.keys]),
        np.concatenate([one.lanes, other.lanes]),
    )


def _names(ids: pa.Array, found: Selection) -> pa.Array:
    return ids.take(pa.array(found.witnesses, mask=found.witnesses < 0))


def _rows(
    ids: pa.Array,
    signed: Signatures,
    witnesses: pa.Array,
    jaccards: NDArray[np.float64],
    config: NearDuplicateConfig,
) -> pa.Table:
    kept = witnesses.is_null().to_numpy(zero_copy_only=False)
    columns = [
        ids,
        pa.array(signed.tokens),
        _column(signed.keys),
        _column(signed.lanes),
        witnesses,
        pa.array(jaccards, mask=kept),
    ]
    return pa.Table.from_arrays(columns, schema=index_schema(config))


def _column(matrix: NDArray[np.uint32] | NDArray[np.uint8]) -> pa.Array:
    """View the rows of a matrix as bytes, without copying."""
    width = matrix.shape[1] * matrix.itemsize
    buffer = pa.py_buffer(np.ascontiguousarray(matrix))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(matrix), [None, buffer])


def _matrix(column: pa.Array, kind: type[np.generic]) -> NDArray[Any]:
    """View bytes of a fixed width as the rows of a matrix, without copying."""
    width = column.type.byte_width // np.dtype(kind).itemsize
    if not len(column):
        return np.empty((0, width), kind)
    cells = np.frombuffer(column.buffers()[1], kind)
    return cells[column.offset * width : (column.offset + len(column)) * width].reshape(-1, width)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()
