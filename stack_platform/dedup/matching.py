"""Compiled inner loops from candidates to leaders; import this module inside functions, numba is heavy.

Two files are a pair if they share the key of a band, at least `least_equal` of their lanes agree and the exact
Jaccard similarity of their shingle sets reaches the threshold: a property of the two files alone. So whatever
way candidates are found here, the same pairs come out. Texts are numbered in order of preference.

Large groups of files that are all a little less similar than the threshold would cost a comparison for each of
n**2 / 2 pairs. There the shingles are numbered by rarity and the sets sorted by it, and a pair of sizes a and b
must share one of its a - o + 1 and b - o + 1 rarest shingles, o being the overlap that the threshold demands
(prefix and positional filter; Xiao, Wang, Lin, Yu, "Efficient similarity joins for near duplicate detection",
2008). Both ways are exact, and for each file the one with less to look at is taken.
"""

from typing import NamedTuple

import numpy as np

from stack_platform.dedup.grouping import bucket_end, equal_lanes
from stack_platform.dedup.kernels import Bytes, Flags, Hashes, Index, Scores, Slots, Wide, compiled

_NOBODY = 1 << 62
_ROUNDING = 1e-6  # sizes below 10**9 times a threshold are off by less
_STRIDE = 64  # steps of a comparison between two looks at what can still be reached
_PAIR_COST = 16  # reading a posting is 1, comparing the lanes of a candidate about this


@compiled
def at_least(value: float) -> int:
    """Return the least whole number that is not below the value, forgiving errors of rounding."""
    return int(np.floor(value - _ROUNDING)) + 1


@compiled
def shared_hashes(one: Hashes, other: Hashes, needed: int) -> int:
    """Count the hashes that two sorted sets share; give up with -1 where `needed` cannot be reached."""
    left, right, shared = 0, 0, 0
    while left < one.size and right < other.size:
        if shared + min(one.size - left, other.size - right) < needed:
            return -1
        for _ in range(_STRIDE):
            a, b = one[left], other[right]
            shared += a == b
            left += a <= b
            right += b <= a
            if left == one.size or right == other.size:
                break
    return shared


@compiled
def similarity(one: Hashes, other: Hashes, threshold: float) -> float:
    """Return the Jaccard similarity of two sorted sets of hashes, neither empty; -1 where it is below."""
    total = one.size + other.size
    shared = shared_hashes(one, other, at_least(threshold / (1 + threshold) * total))
    found = shared / (total - shared)
    return found if found >= threshold else -1.0


@compiled
def share_band(one: Hashes, other: Hashes) -> bool:
    """Tell whether any key agrees."""
    shared = False
    for band in range(one.size):
        shared |= one[band] == other[band]
    return bool(shared)


@compiled
def postings_room(tokens: Hashes, offsets: Index, threshold: float, once: int) -> Index:
    """Return where the posting list of each shingle from `once` on begins; those before occur once and have none."""
    starts = np.zeros(max(int(tokens.max()) - once + 1 if tokens.size else 0, 0) + 1, np.int64)
    for text in range(offsets.size - 1):
        size = offsets[text + 1] - offsets[text]
        for place in range(size - at_least(threshold * size) + 1):
            token = tokens[offsets[text] + place]
            if token >= once:
                starts[token - once + 1] += 1
    for token in range(starts.size - 1):
        starts[token + 1] += starts[token]
    return starts


@compiled
def rank_by_rarity(packed: Wide, sets: int, tokens: Hashes) -> int:
    """Rank shingles of a number of sets from the rarest on; `packed` is hash << 32 | place, sorted.

    Returns how many occur once.
    """
    low = np.uint64(0xFFFFFFFF)
    counts = np.zeros(sets + 2, np.int64)
    once = 0
    for turn in range(2):  # count how many shingles have each frequency, then number them
        start = 0
        while start < packed.size:
            stop = bucket_end(packed, start)
            if turn == 0:
                counts[stop - start + 1] += 1
            else:
                for place in range(start, stop):
                    tokens[int(np.int64(packed[place] & low))] = counts[stop - start]
                counts[stop - start] += 1
            start = stop
        if turn == 0:
            once = counts[2]
            for frequency in range(1, counts.size):
                counts[frequency] += counts[frequency - 1]
    return once


class Files(NamedTuple):
    """What is compared: keys (n, bands), lanes (n, num_perm), sets hashes[offsets[i]:offsets[i + 1]], sorted.

    Text i is in buckets[i, band], -1 where alone; bucket b has room from starts[b] to starts[b + 1]. With
    `once` of 0 and more the hashes are ranks by rarity, those below it occurring once.
    """

    keys: Hashes
    lanes: Bytes
    hashes: Hashes
    offsets: Index
    buckets: Index
    starts: Index
    once: int


class Leaders(NamedTuple):
    """The kept texts by bucket and, with the place in their set, by each of their rarest shingles.

    Of a list of postings the least size of a set is known and the greatest reach: what a set's size leaves
    for the overlap beyond the place, in terms of the size of the other set.
    """

    texts: Index
    ends: Index
    posting_starts: Index
    posting_ends: Index
    posting_texts: Slots
    posting_places: Slots
    least_sizes: Index
    reaches: Scores
    seen: Index


@compiled
def compare(files: Files, text: int, leader: int, threshold: float, least_equal: int) -> float:
    """Return the similarity of two texts, -1 where they are no pair."""
    one = files.hashes[files.offsets[text] : files.offsets[text + 1]]
    other = files.hashes[files.offsets[leader] : files.offsets[leader + 1]]
    if min(one.size, other.size) < at_least(threshold * max(one.size, other.size)):
        return -1.0
    if equal_lanes(files.lanes[text], files.lanes[leader]) < least_equal:
        return -1.0
    return similarity(one, other, threshold)


@compiled
def find_in_buckets(
    files: Files, leaders: Leaders, text: int, threshold: float, least_equal: int
) -> tuple[int, float]:
    """Return the first kept text that is a pair with this one, by its buckets."""
    best, score = _NOBODY, -1.0
    for bucket in files.buckets[text]:
        if bucket < 0:
            continue
        for slot in range(files.starts[bucket], leaders.ends[bucket]):
            leader = leaders.texts[slot]
            if leader >= best:
                break
            if leaders.seen[leader] != text:
                leaders.seen[leader] = text
                found = compare(files, text, leader, threshold, least_equal)
                if found >= 0:
                    best, score = leader, found
    return best, score


@compiled
def worth_reading(leaders: Leaders, token: int, place: int, size: int, share: float) -> bool:
    """Tell whether a list may hold a set whose overlap with this one can begin here and be large enough."""
    most = (size - place + _ROUNDING) / share - size
    return bool(leaders.least_sizes[token] <= most and leaders.reaches[token] + _ROUNDING >= share * size)


@compiled
def find_by_rarest(
    files: Files, leaders: Leaders, text: int, threshold: float, least_equal: int
) -> tuple[int, float]:
    """Return the first kept text that is a pair with this one, by its rarest shingles."""
    best, score = _NOBODY, -1.0
    share = threshold / (1 + threshold)
    own = files.hashes[files.offsets[text] : files.offsets[text + 1]]
    for place in range(np.searchsorted(own, files.once), own.size - at_least(threshold * own.size) + 1):
        token = own[place] - files.once
        if not worth_reading(leaders, token, place, own.size, share):
            continue
        for slot in range(leaders.posting_starts[token], leaders.posting_ends[token]):
            leader = leaders.posting_texts[slot]
            size = files.offsets[leader + 1] - files.offsets[leader]
            reach = min(own.size - place, size - leaders.posting_places[slot])
            if reach < at_least(share * (own.size + size)):
                continue
            if leader >= best or leaders.seen[leader] == text:
                continue
            leaders.seen[leader] = text
            if share_band(files.keys[text], files.keys[leader]):
                found = compare(files, text, leader, threshold, least_equal)
                if found >= 0:
                    best, score = leader, found
    return best, score


@compiled
def find_leader(
    files: Files, leaders: Leaders, text: int, threshold: float, least_equal: int
) -> tuple[int, float]:
    """Return the first kept text that is a pair with this one, the way that looks at less."""
    if files.once >= 0:
        by_bucket, by_rarest = 0, 0
        for bucket in files.buckets[text]:
            if bucket >= 0:
                by_bucket += leaders.ends[bucket] - files.starts[bucket]
        own = files.hashes[files.offsets[text] : files.offsets[text + 1]]
        for place in range(np.searchsorted(own, files.once), own.size - at_least(threshold * own.size) + 1):
            token = own[place] - files.once
            if worth_reading(leaders, token, place, own.size, threshold / (1 + threshold)):
                by_rarest += leaders.posting_ends[token] - leaders.posting_starts[token]
        if by_rarest < _PAIR_COST * by_bucket:
            return find_by_rarest(files, leaders, text, threshold, least_equal)
    return find_in_buckets(files, leaders, text, threshold, least_equal)


@compiled
def add_leader(files: Files, leaders: Leaders, text: int, threshold: float) -> None:
    """Enter a kept text where later ones look for it."""
    for bucket in files.buckets[text]:
        if bucket >= 0:
            leaders.texts[leaders.ends[bucket]] = text
            leaders.ends[bucket] += 1
    if files.once >= 0:
        own = files.hashes[files.offsets[text] : files.offsets[text + 1]]
        for place in range(np.searchsorted(own, files.once), own.size - at_least(threshold * own.size) + 1):
            token = own[place] - files.once
            slot = leaders.posting_ends[token]
            leaders.posting_texts[slot] = text
            leaders.posting_places[slot] = place
            leaders.posting_ends[token] += 1
            leaders.least_sizes[token] = min(leaders.least_sizes[token], own.size)
            leaders.reaches[token] = max(leaders.reaches[token], own.size / (1 + threshold) - place)


@compiled
def select_leaders(
    files: Files,
    settled: Flags,
    threshold: float,
    least_equal: int,
    grow: bool,
    witnesses: Index,
    jaccards: Scores,
) -> None:
    """Walk the texts in order: each leaves with a witness or, if `grow`, becomes a leader; settled ones are."""
    if files.once >= 0:
        posting_starts = postings_room(files.hashes, files.offsets, threshold, files.once)
    else:
        posting_starts = np.zeros(1, np.int64)
    leaders = Leaders(
        np.empty(files.starts[-1], np.int64), files.starts[:-1].copy(),
        posting_starts, posting_starts[:-1].copy(),
        np.empty(posting_starts[-1], np.int32), np.empty(posting_starts[-1], np.int32),
        np.full(posting_starts.size, _NOBODY, np.int64), np.full(posting_starts.size, -np.inf),
        np.full(files.keys.shape[0], -1, np.int64),
    )  # fmt: skip
    for text in range(files.keys.shape[0]):
        if not settled[text]:
            leader, found = find_leader(files, leaders, text, threshold, least_equal)
            if leader != _NOBODY:
                witnesses[text] = leader
                jaccards[text] = found
                continue
        if grow or settled[text]:
            add_leader(files, leaders, text, threshold)
