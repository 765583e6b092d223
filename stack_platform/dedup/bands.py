"""Candidate buckets: files whose signatures agree on all rows of at least one band.

Locality-sensitive hashing by banding (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4). Two
files of Jaccard similarity J share a bucket with probability 1 - (1 - J**rows)**bands: 0.995 at J = 0.7 with
42 bands of 6 rows, against 0.51 with the usual 25 bands of 10. The additional false candidates cost little,
since every pair is verified afterwards.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Buckets:
    """Buckets of two and more files.

    Attributes:
        of_file: (files, bands) bucket number, -1 where a file is alone
        starts: (buckets + 1,) where each bucket begins in `members`
        members: files of each bucket, ascending

    """

    of_file: NDArray[np.int32]
    starts: NDArray[np.int64]
    members: NDArray[np.int32]


def candidate_buckets(
    signatures: NDArray[np.uint32], eligible: NDArray[np.bool_], bands: int = 42, rows: int = 6
) -> Buckets:
    """Group the eligible files by their bands.

    Needs `signatures` (files, at least bands * rows). Memory: 4 bytes per file and band for `of_file`, at
    most as much for `members`.
    """
    from stack_platform.dedup.kernels import hash_band

    files = np.flatnonzero(eligible)
    of_file = np.full((len(signatures), bands), -1, np.int32)
    sizes: list[NDArray[np.int64]] = []
    members: list[NDArray[np.int32]] = []
    first = 0
    keys = np.empty(files.size, np.uint64)
    for band in range(bands):
        hash_band(signatures, files, band * rows, rows, keys)
        order = np.argsort(keys, kind="stable")
        _, counts = np.unique(keys[order], return_counts=True)
        shared = counts > 1
        in_bucket = files[order[np.repeat(shared, counts)]]
        counts = counts[shared]
        of_file[in_bucket, band] = np.repeat(np.arange(first, first + counts.size, dtype=np.int32), counts)
        first += counts.size
        sizes.append(counts)
        members.append(in_bucket.astype(np.int32))
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(sizes), dtype=np.int64)])
    return Buckets(of_file, starts, np.concatenate(members))
