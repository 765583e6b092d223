"""Compiled inner loops from signatures to groups of candidates; import this module inside functions, numba is heavy.

A band comes as `packed`: key << 32 | text for each text, sorted, so that a bucket is a run of equal keys and its
texts ascend. Texts are numbered in order of preference.
"""

import numpy as np

from stack_platform.dedup.kernels import Bytes, Flags, Hashes, Index, Wide, compiled


@compiled
def equal_lanes(one: Bytes, other: Bytes) -> int:
    """Count the permutations whose minima agree in the bits that are kept."""
    equal = np.int32(0)
    for lane in range(one.size):
        equal += np.int32(one[lane] == other[lane])
    return int(equal)


@compiled
def find_root(parents: Index, text: int) -> int:
    """Return the first text of a component, shortening the way to it."""
    while parents[text] != text:
        parents[text] = parents[parents[text]]
        text = parents[text]
    return text


@compiled
def unite(parents: Index, one: int, other: int) -> None:
    """Join two components under the earlier root."""
    a, b = find_root(parents, one), find_root(parents, other)
    if a < b:
        parents[b] = a
    else:
        parents[a] = b


@compiled
def bucket_end(packed: Wide, start: int) -> int:
    """Return where the run of keys equal to the one at `start` ends."""
    stop = start + 1
    while stop < packed.size and packed[stop] >> np.uint64(32) == packed[start] >> np.uint64(32):
        stop += 1
    return stop


@compiled
def join_buckets(
    packed: Wide, lanes: Bytes, settled: Flags, parents: Index, least_equal: int, direct: int
) -> None:
    """Join texts that share a band's key and whose lanes agree; `packed` is key << 32 | text, sorted.

    Buckets of more than `direct` texts are joined whole: that makes components larger, never too small.
    Pairs of settled texts are nobody's concern.
    """
    low = np.uint64(0xFFFFFFFF)
    start = 0
    while start < packed.size:
        stop = bucket_end(packed, start)
        for place in range(start + 1, stop):
            text = int(np.int64(packed[place] & low))
            first = start if stop - start <= direct else place - 1
            for earlier in range(first, place):
                partner = int(np.int64(packed[earlier] & low))
                if settled[text] and settled[partner] and stop - start <= direct:
                    continue
                if find_root(parents, text) == find_root(parents, partner):
                    continue
                if stop - start > direct or equal_lanes(lanes[text], lanes[partner]) >= least_equal:
                    unite(parents, text, partner)
        start = stop


@compiled
def mark_rivals(packed: Wide, lanes: Bytes, settled: Flags, marked: Flags, least_equal: int) -> None:
    """Mark the settled texts that share a band's key with an open one whose lanes agree."""
    low = np.uint64(0xFFFFFFFF)
    start = 0
    while start < packed.size:
        stop = bucket_end(packed, start)
        first = start  # settled texts come first
        while first < stop and settled[int(np.int64(packed[first] & low))]:
            first += 1
        for place in range(start, first):
            text = int(np.int64(packed[place] & low))
            for other in range(first, stop):
                if marked[text]:
                    break
                partner = int(np.int64(packed[other] & low))
                marked[text] = equal_lanes(lanes[text], lanes[partner]) >= least_equal
        start = stop


@compiled
def flatten(parents: Index, sizes: Index) -> None:
    """Give every text its root, and every root the size of its component."""
    for text in range(parents.size):
        parents[text] = find_root(parents, text)
        sizes[parents[text]] += 1


@compiled
def number_buckets(packed: Wide, band: int, first: int, buckets: Index, starts: Index) -> int:
    """Give the buckets of two and more texts of one band numbers from `first` on; return the next number."""
    low = np.uint64(0xFFFFFFFF)
    start = 0
    while start < packed.size:
        stop = bucket_end(packed, start)
        if stop - start > 1:
            for place in range(start, stop):
                buckets[int(np.int64(packed[place] & low)), band] = first
            starts[first + 1] = starts[first] + stop - start
            first += 1
        start = stop
    return first


@compiled
def meet(members: Index, keys: Hashes, sorted_keys: Hashes, filters: Hashes) -> Flags:
    """Tell which rows of `keys` (texts, bands) share a key with `sorted_keys` (bands, texts).

    `filters` (bands, a power of two) has the bits of the low bits of each sorted key set and spares most searches;
    32 keys to a word, it stays in the cache.
    """
    found = np.zeros(members.size, np.bool_)
    mask = np.uint32(32 * filters.shape[1] - 1)
    for place in range(members.size):
        text = members[place]
        for band in range(filters.shape[0]):
            key = keys[text, band]
            bit = key & mask
            if filters[band, bit >> np.uint32(5)] >> (bit & np.uint32(31)) & np.uint32(1):
                row = sorted_keys[band]
                at = np.searchsorted(row, key)
                if at < row.size and row[at] == key:
                    found[place] = True
                    break
    return found
