"""Compiled walk over repositories; import this module inside functions, numba is heavy."""

import numpy as np

from stack_platform.dedup.kernels import Index, Scores, compiled
from stack_platform.dedup.matching import at_least

_SAME_CONTENTS, _NEAR_COPY = 2, 3


@compiled
def count_shared(one: Index, other: Index) -> int:
    """Count what two sorted sets share."""
    left, right, shared = 0, 0, 0
    while left < one.size and right < other.size:
        a, b = one[left], other[right]
        shared += a == b
        left += a <= b
        right += b <= a
    return shared


@compiled
def same_mark(marks: Index, first: Index, repo: int) -> tuple[int, int]:
    """Return the kept repository with the same mark, and which mark; -1 where there is none."""
    best, reason = -1, -1
    for kind in range(marks.shape[0]):
        if marks[kind, repo] >= 0:
            keeper = first[kind, marks[kind, repo]]
            if keeper < 0 or (
                marks[-1, keeper] >= 0 and marks[-1, repo] >= 0 and marks[-1, keeper] != marks[-1, repo]
            ):
                continue  # a revision has one root directory: packages of one revision are different parts of it
            if best < 0 or keeper < best:
                best, reason = keeper, kind
    return best, reason


@compiled
def first_container(
    own: Index, sets: Index, offsets: Index, starts: Index, ends: Index, postings: Index, seen: Index,
    repo: int, overlap: float, same_size: bool,
) -> tuple[int, int]:  # fmt: skip
    """Return the first kept repository that has enough of the contents, and how many; -1 where there is none."""
    needed = own.size if same_size else at_least(overlap * own.size)
    best, most = -1, 0
    for place in range(own.size - needed + 1):
        for slot in range(starts[own[place]], ends[own[place]]):
            keeper = postings[slot]
            if 0 <= best <= keeper:
                break
            size = offsets[keeper + 1] - offsets[keeper]
            if seen[keeper] == repo or size < needed or (same_size and size != own.size):
                continue
            seen[keeper] = repo
            shared = count_shared(own, sets[offsets[keeper] : offsets[keeper + 1]])
            if shared >= needed:
                best, most = keeper, shared
    return best, most


@compiled
def find_keepers(
    sets: Index, offsets: Index, marks: Index, starts: Index, overlap: float, min_contents: int
) -> tuple[Index, Index, Scores]:
    """Walk repositories in order; `sets` are ranks of contents by rarity, sorted, `starts` the room for their lists.

    Returns the keeper (-1 for those that stay), the number of the reason and the overlap, NaN where not counted.
    """
    count = offsets.size - 1
    keepers, reasons, overlaps = (
        np.full(count, -1, np.int64),
        np.full(count, -1, np.int64),
        np.full(count, np.nan),
    )
    postings, ends = np.empty(sets.size, np.int64), starts[:-1].copy()
    seen = np.full(count, -1, np.int64)
    first = np.full((marks.shape[0], marks.max() + 1), -1, np.int64)
    for repo in range(count):
        own = sets[offsets[repo] : offsets[repo + 1]]
        keeper, reason = same_mark(marks, first, repo)
        shared = -1
        if keeper < 0 and own.size:
            small = own.size < min_contents
            keeper, shared = first_container(
                own, sets, offsets, starts, ends, postings, seen, repo, overlap, small
            )
            same = keeper >= 0 and offsets[keeper + 1] - offsets[keeper] == shared == own.size
            reason = _SAME_CONTENTS if same else _NEAR_COPY
        if keeper >= 0:
            keepers[repo], reasons[repo] = keeper, reason
            if shared >= 0:
                overlaps[repo] = shared / own.size
            continue
        for kind in range(marks.shape[0]):
            if marks[kind, repo] >= 0 and first[kind, marks[kind, repo]] < 0:
                first[kind, marks[kind, repo]] = repo
        for content in own:
            postings[ends[content]] = repo
            ends[content] += 1
    return keepers, reasons, overlaps
