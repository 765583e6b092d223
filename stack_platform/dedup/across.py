"""Near duplicates between languages, from the stored indexes of each.

An option, since a header may be C and C++ and a text TypeScript and JavaScript: what is kept in a language leaves
if a language before it keeps nearly the same. No file is signed again; only candidates are read.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stack_platform.dedup.config import NearDuplicateConfig
from stack_platform.dedup.index import check_index, index_schema, signatures_of
from stack_platform.dedup.scratch import ShingleFile
from stack_platform.dedup.selection import select
from stack_platform.dedup.signatures import Places, Read, lay_sets_aside

ACROSS_DUPLICATES = pa.schema(
    [
        ("language", pa.string()),
        ("blob_id", pa.string()),
        ("witness_language", pa.string()),
        ("witness", pa.string()),
        ("jaccard", pa.float64()),
    ]
)


def duplicates_across(
    indexes: Sequence[tuple[str, pa.Table]],
    read: Read,
    config: NearDuplicateConfig = NearDuplicateConfig(),
    *,
    threads: int = 1,
) -> pa.Table:
    """Name the kept files of a language that a language before it keeps too, or nearly.

    `indexes` are languages and what `build_index` gave for each, in order of preference. A content that two
    languages keep leaves the later one, with itself as witness. Returns ACROSS_DUPLICATES in that order.

    Raises:
        TableError: an index was made with other settings.
        SourceError: `read` left out a file, or gave other contents than were signed.

    """
    parts = []
    for _, index in indexes:
        check_index(index, config)
        parts.append(index.filter(pc.is_null(index["witness"])))
    kept = pa.concat_tables(parts) if parts else index_schema(config).empty_table()
    languages = np.repeat(np.arange(len(parts)), [part.num_rows for part in parts])
    places = Places(kept["blob_id"])
    numbers = places.find(kept["blob_id"].combine_chunks())
    firsts = np.full(len(places), -1, np.int64)
    firsts[numbers[::-1]] = np.arange(kept.num_rows)[::-1]
    signed = signatures_of(kept.take(pa.array(firsts)), config)

    def lay(sets: ShingleFile, wanted: NDArray[np.int64]) -> None:
        batches = read(places.ids.take(pa.array(wanted)))
        lay_sets_aside(sets, places, wanted, signed.tokens, batches, config, threads)

    found = select(signed, np.zeros(len(places), np.bool_), lay, config, threads)
    again = np.arange(kept.num_rows) != firsts[numbers]
    leaving = np.flatnonzero(again | (found.witnesses[numbers] >= 0))
    gone = numbers[leaving]
    witnesses = np.where(found.witnesses[gone] >= 0, found.witnesses[gone], gone)
    names = pa.array([language for language, _ in indexes], pa.string())
    columns = [
        names.take(pa.array(languages[leaving])),
        places.ids.take(pa.array(gone)),
        names.take(pa.array(languages[firsts[witnesses]])),
        places.ids.take(pa.array(witnesses)),
        pa.array(np.where(witnesses == gone, 1.0, found.jaccards[gone])),
    ]
    return pa.Table.from_arrays(columns, schema=ACROSS_DUPLICATES)
