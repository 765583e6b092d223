"""Which files are candidates: those whose signatures agree on all rows of at least one band.

Locality-sensitive hashing by banding (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4). Two
files of Jaccard similarity J share a bucket with probability 1 - (1 - J**rows)**bands: 0.995 at J = 0.7 with
42 bands of 6 rows, against 0.51 with the usual 25 bands of 10. The additional false candidates cost little,
since every pair is verified afterwards. Bands are sorted one at a time, 8 bytes a file.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_DIRECT = 64  # files of a bucket that are compared with each other before they are joined to a component


def components(
    keys: NDArray[np.uint32],
    lanes: NDArray[np.uint8],
    eligible: NDArray[np.bool_],
    settled: NDArray[np.bool_],
    least_equal: int,
) -> NDArray[np.int64]:
    """Label the groups of files that share no near duplicate with others; -1 where there is none to look for.

    Needs keys (n, bands), lanes (n, num_perm). The settled come first and are no pairs of each other. A component
    may be larger than it must be; its label is its first file.
    """
    from stack_platform.dedup.grouping import flatten, join_buckets, mark_rivals

    parents, sizes = np.arange(len(keys)), np.zeros(len(keys), np.int64)
    files = np.flatnonzero(eligible)
    if settled.any():
        marked = ~settled
        for packed in _sorted_bands(keys, files):
            mark_rivals(packed, lanes, settled, marked, least_equal)
        files = np.flatnonzero(eligible & marked)
    for packed in _sorted_bands(keys, files):
        join_buckets(packed, lanes, settled, parents, least_equal, _DIRECT)
    flatten(parents, sizes)
    open_roots = np.zeros(len(keys), np.bool_)
    open_roots[parents[~settled]] = True
    return np.where((sizes[parents] > 1) & open_roots[parents], parents, -1)


def number_buckets(keys: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the bucket of each file and band (n, bands), -1 where alone, and where its room starts (buckets + 1,)."""
    from stack_platform.dedup.grouping import number_buckets as number

    count, bands = keys.shape
    buckets = np.full((count, bands), -1, np.int64)
    starts = np.zeros(bands * (count // 2) + 1, np.int64)
    first = 0
    for band, packed in enumerate(_sorted_bands(keys, np.arange(count))):
        first = number(packed, band, first, buckets, starts)
    return buckets, starts[: first + 1]


def colliding(
    keys: NDArray[np.uint32], rows: NDArray[np.int64], others: NDArray[np.uint32]
) -> NDArray[np.bool_]:
    """Tell which of the chosen rows of keys (n, bands) share the key of a band with any of `others` (m, bands)."""
    from stack_platform.dedup.grouping import meet

    words = 1 << max(5, (64 * len(others)).bit_length() - 5)
    filters = np.zeros((keys.shape[1], words), np.uint32)
    for band in range(keys.shape[1]):
        bits = others[:, band] & np.uint32(32 * words - 1)
        np.bitwise_or.at(filters[band], bits >> np.uint32(5), np.uint32(1) << (bits & np.uint32(31)))
    return meet(rows, keys, np.sort(others.T, axis=1), filters)


def _sorted_bands(keys: NDArray[np.uint32], files: NDArray[np.int64]) -> Iterator[NDArray[np.uint64]]:
    """Yield key << 32 | file of each band, sorted."""
    packed = np.empty(files.size, np.uint64)
    for band in range(keys.shape[1]):
        np.left_shift(keys[files, band], np.uint64(32), out=packed, dtype=np.uint64)
        packed |= files.astype(np.uint64)
        packed.sort()
        yield packed
