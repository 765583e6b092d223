"""Signatures of files as they are kept: the keys of their bands, and 8 bits of each lane.

One pass over the contents. A file takes 4 bytes a band and 1 a lane, 424 with 42 bands and 256 lanes; the low
bits of a minimum say almost as much as all of them (Li and König, "b-bit minwise hashing", 2010): two lanes agree
by chance once in 256.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stack_platform.dedup.config import NearDuplicateConfig
from stack_platform.dedup.minhash import Permutations, permutations, sign
from stack_platform.dedup.scratch import ShingleFile
from stack_platform.dedup.shingles import ShingleSets, shingle_sets
from stack_platform.errors import SchemaError, SourceError

Read = Callable[[pa.Array | None], Iterator[pa.RecordBatch]]

_ROWS = 1024  # files signed at once; their full signatures take 1 MiB

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, slots=True)
class Signatures:
    """What is known of n files.

    Attributes:
        tokens: (n,) tokens
        keys: (n, bands) hash of each band
        lanes: (n, num_perm) low 8 bits of datasketch's hash values

    """

    tokens: NDArray[np.int32]
    keys: NDArray[np.uint32]
    lanes: NDArray[np.uint8]

    @classmethod
    def empty(cls, count: int, config: NearDuplicateConfig) -> "Signatures":
        """Make room for a number of files; a token count of -1 means not seen yet."""
        return cls(
            np.full(count, -1, np.int32),
            np.empty((count, config.bands), np.uint32),
            np.empty((count, config.num_perm), np.uint8),
        )

    def put(self, places: NDArray[np.int64], other: "Signatures") -> None:
        """Write the signatures of other files at the places given."""
        self.tokens[places], self.keys[places], self.lanes[places] = other.tokens, other.keys, other.lanes


def distinct_ids(ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return ids in the order they first come in.

    Raises:
        SchemaError: they are no strings, or one is null.

    """
    if not (pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)):
        raise SchemaError(f"blob_id has the type {ids.type}; write the ids as strings")
    if ids.null_count:
        raise SchemaError(f"{ids.null_count} files have no blob_id; a decision needs a name to drop by")
    distinct = pc.unique(ids).cast(pa.string())
    return distinct.combine_chunks() if isinstance(distinct, pa.ChunkedArray) else distinct


class Places:
    """Finds the number of an id; ids are numbered in the order given, where they come first."""

    def __init__(self, ids: pa.Array | pa.ChunkedArray) -> None:
        """Take ids of type string.

        Raises:
            SchemaError: another type, an id is null, or two differ in trailing NUL characters only.

        """
        self.ids = distinct_ids(ids)
        keys = _fixed_width(self.ids)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]
        if np.any(self._sorted[1:] == self._sorted[:-1]):
            raise SchemaError("two blob_ids differ in NUL characters at their end only; write ids without")

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, ids: pa.Array) -> NDArray[np.int64]:
        """Return the number of each id, -1 for those that nobody asked for."""
        if not len(self) or not len(ids):
            return np.full(len(ids), -1, np.int64)
        keys = _fixed_width(ids)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self) - 1)
        return np.where(self._sorted[at] == keys, self._order[at], -1)

    def demand(self, seen: NDArray[np.bool_]) -> None:
        """Refuse a reading that left files out.

        Raises:
            SourceError: not all of the files were seen.

        """
        absent = np.flatnonzero(~seen)
        if absent.size:
            raise SourceError(
                f"read left out {absent.size} of {len(self)} files, among them {self.ids[absent[0]]}; yield them all"
            )


def sign_files(
    places: Places, batches: Iterable[pa.RecordBatch], config: NearDuplicateConfig, threads: int
) -> Signatures:
    """Compute the signatures of all files of `places` from batches (blob_id, content) in any order.

    Raises:
        SchemaError: content is neither string nor binary.
        SourceError: a file is not among the batches.

    """
    functions = permutations(config.num_perm, config.seed)
    signed = Signatures.empty(len(places), config)

    def work(batch: pa.RecordBatch) -> tuple[NDArray[np.int64], Signatures]:
        numbers = places.find(batch["blob_id"])
        rows = np.flatnonzero(numbers >= 0)
        return numbers[rows], _signatures(batch["content"], rows, functions, config)

    for numbers, part in in_order(work, batches, threads):
        signed.put(numbers, part)
    places.demand(signed.tokens >= 0)
    return signed


def lay_sets_aside(
    into: ShingleFile, places: Places, wanted: NDArray[np.int64], tokens: NDArray[np.int32],
    batches: Iterable[pa.RecordBatch], config: NearDuplicateConfig, threads: int,
) -> None:  # fmt: skip
    """Write the shingle sets of the wanted files, read again; tokens (len(places),) are those of the first reading.

    Raises:
        SourceError: a file is missing, or has other contents than before.

    """
    is_wanted = np.zeros(len(places), np.bool_)
    is_wanted[wanted] = True
    most = tokens.astype(np.int64) - config.ngram + 1

    def work(batch: pa.RecordBatch) -> list[tuple[NDArray[np.int64], ShingleSets]]:
        numbers = places.find(batch["blob_id"])
        rows = np.flatnonzero((numbers >= 0) & is_wanted[numbers])
        return [(numbers[part.rows], part) for part in shingle_sets(batch["content"], config.ngram, rows)]

    for parts in in_order(work, batches, threads):
        for numbers, part in parts:
            sizes = np.diff(part.offsets)
            if np.any((sizes < 1) | (sizes > most[numbers])):
                raise SourceError("read gave other contents the second time; read from a fixed snapshot")
            into.write(numbers, part.hashes, part.offsets)
    places.demand((into.sizes[: len(places)] >= 0) | ~is_wanted)


def in_order(function: Callable[[_In], _Out], items: Iterable[_In], threads: int) -> Iterator[_Out]:
    """Map with a few threads and a bounded look-ahead; results come in the order of the items."""
    if threads == 1:
        yield from map(function, items)
        return
    pending: deque[Future[_Out]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _signatures(
    column: pa.Array, rows: NDArray[np.int64], functions: Permutations, config: NearDuplicateConfig
) -> Signatures:
    from stack_platform.dedup.kernels import condense

    signed = Signatures.empty(rows.size, config)
    for start in range(0, rows.size, _ROWS):
        part = slice(start, start + _ROWS)
        full, tokens = sign(column, functions, config.ngram, rows[part])
        condense(full, config.rows, signed.keys[part], signed.lanes[part])
        signed.tokens[part] = np.minimum(tokens, np.iinfo(np.int32).max)
    return signed


def _fixed_width(ids: pa.Array) -> NDArray[np.bytes_]:
    """Return ids as bytes of one length, which sort and compare without Python; in place where all are as long."""
    ids = ids.cast(pa.large_binary())
    if not len(ids):
        return np.empty(0, "S1")
    offsets = np.frombuffer(ids.buffers()[1], np.int64)[ids.offset : ids.offset + len(ids) + 1]
    width = int(offsets[1] - offsets[0])
    if width and not ids.null_count and np.all(np.diff(offsets) == width):
        return np.frombuffer(ids.buffers()[2], f"S{width}", len(ids), int(offsets[0]))
    keys: NDArray[np.bytes_] = ids.to_numpy(zero_copy_only=False).astype(np.bytes_)
    return keys
