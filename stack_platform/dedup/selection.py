"""Who leaves and who stays: leaders among the candidates, a bounded number of shingles in memory at a time.

Candidates fall into components that share no pair. Components are packed into shards, and of a shard alone the
shingle sets are read back. A component too large for that goes in rounds: a part of its files in order of
preference at a time, first against the leaders of earlier rounds, group by group, then among themselves. A
walk in order decides each file by the files before it, so rounds, shards and threads change nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stack_platform.dedup.bands import components, number_buckets
from stack_platform.dedup.config import NearDuplicateConfig
from stack_platform.dedup.scratch import ShingleFile
from stack_platform.dedup.signatures import Signatures, in_order

Rows = NDArray[np.int64]
Lay = Callable[[ShingleFile, Rows], None]  # writes the shingle sets of the files given


@dataclass(frozen=True, slots=True)
class ShardConfig:
    """How much is compared at once; it changes no result.

    Attributes:
        hashes: shingle hashes of a shard or of half a round (2 Mi: 8 MiB, up to 40 bytes each where sorted by rarity)
        files: files of a shard or of half a round (64 Ki: 0.6 KiB each)
        rarest_from: files of a component from which on it is searched by rarest shingles too

    """

    hashes: int = 2 << 20
    files: int = 1 << 16
    rarest_from: int = 1024


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome for n files: (n,) number of the witness, -1 for a file that stays, and their similarity."""

    witnesses: NDArray[np.int64]
    jaccards: NDArray[np.float64]


def select(
    signed: Signatures,
    settled: NDArray[np.bool_],
    lay: Lay,
    config: NearDuplicateConfig,
    threads: int = 1,
    shard: ShardConfig = ShardConfig(),
) -> Selection:
    """Decide about files in order of preference; the settled (n,) come first, are kept and only serve as witnesses.

    Two settled files may be near duplicates. The witness of a file is the first kept one that is a pair with it.
    """
    found = Selection(np.full(len(settled), -1, np.int64), np.zeros(len(settled)))
    eligible = signed.tokens >= config.min_tokens
    labels = components(signed.keys, signed.lanes, eligible, settled, config.least_equal)
    active = np.flatnonzero(labels >= 0)
    if not active.size:
        return found
    with ShingleFile(len(settled)) as sets:
        lay(sets, active)
        problem = _Problem(signed, settled, sets, config, shard, found)
        small, giants = _pack(labels, active, sets.sizes, shard)
        for _ in in_order(lambda work: problem.walk(*work), small, threads):
            pass
        for rows in giants:
            problem.walk_in_rounds(rows)
    return found


@dataclass(frozen=True, slots=True)
class _Problem:
    """The files, and where the decisions about them go; rows are numbers of files, ascending."""

    signed: Signatures
    settled: NDArray[np.bool_]
    sets: ShingleFile
    config: NearDuplicateConfig
    shard: ShardConfig
    found: Selection

    def walk(self, rows: Rows, by_rarity: bool) -> None:
        """Decide about the files of whole components."""
        self._walk(rows, self.settled[rows], by_rarity, grow=True)

    def walk_in_rounds(self, rows: Rows) -> None:
        """Decide about one component, part by part."""
        leaders = rows[self.settled[rows]]
        for part in self._parts(rows[~self.settled[rows]]):
            for group in self._parts(leaders):
                both = np.concatenate([group, part[self.found.witnesses[part] < 0]])
                self._walk(both, np.arange(both.size) < group.size, True, grow=False)
            rest = part[self.found.witnesses[part] < 0]
            self._walk(rest, np.zeros(rest.size, np.bool_), True, grow=True)
            leaders = np.concatenate([leaders, rest[self.found.witnesses[rest] < 0]])

    def _walk(self, rows: Rows, settled: NDArray[np.bool_], by_rarity: bool, *, grow: bool) -> None:
        from stack_platform.dedup.matching import Files, select_leaders

        hashes, offsets = self.sets.read(rows)
        once = -1
        if by_rarity:
            hashes, once = _by_rarity(hashes, offsets)
        keys = self.signed.keys[rows]
        files = Files(keys, self.signed.lanes[rows], hashes, offsets, *number_buckets(keys), once)
        witnesses, jaccards = np.full(rows.size, -1, np.int64), np.zeros(rows.size)
        select_leaders(
            files, settled, self.config.threshold, self.config.least_equal, grow, witnesses, jaccards
        )
        leave = np.flatnonzero(witnesses >= 0)
        self.found.witnesses[rows[leave]] = rows[witnesses[leave]]
        self.found.jaccards[rows[leave]] = jaccards[leave]

    def _parts(self, rows: Rows) -> Iterator[Rows]:
        """Cut files into parts of half a shard at most, or of one file that is larger."""
        ends = np.cumsum(self.sets.sizes[rows])
        start = 0
        while start < rows.size:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + self.shard.hashes, side="right"))
            stop = min(max(stop, start + 1), start + self.shard.files)
            yield rows[start:stop]
            start = stop


def _pack(
    labels: NDArray[np.int64], active: Rows, sizes: NDArray[np.int64], shard: ShardConfig
) -> tuple[list[tuple[Rows, bool]], list[Rows]]:
    """Return shards of whole components, true where searched by rarity, and the components too large for one."""
    ordered = active[np.argsort(labels[active], kind="stable")]
    cuts = np.flatnonzero(np.diff(labels[ordered])) + 1
    small: list[tuple[Rows, bool]] = []
    giants: list[Rows] = []
    waiting: list[Rows] = []
    hashes = files = 0
    for rows in np.split(ordered, cuts):
        size = int(sizes[rows].sum())
        if size > 2 * shard.hashes or rows.size > 2 * shard.files:
            giants.append(rows)
            continue
        if rows.size >= shard.rarest_from:
            small.append((rows, True))
            continue
        if waiting and (hashes + size > shard.hashes or files + rows.size > shard.files):
            small.append((np.sort(np.concatenate(waiting)), False))
            waiting, hashes, files = [], 0, 0
        waiting.append(rows)
        hashes += size
        files += rows.size
    if waiting:
        small.append((np.sort(np.concatenate(waiting)), False))
    return small, giants


def _by_rarity(hashes: NDArray[np.uint32], offsets: NDArray[np.int64]) -> tuple[NDArray[np.uint32], int]:
    """Replace hashes by ranks from the rarest on and sort each set; also return how many occur once."""
    from stack_platform.dedup.matching import rank_by_rarity

    packed = hashes.astype(np.uint64) << np.uint64(32)
    packed |= np.arange(hashes.size, dtype=np.uint64)
    packed.sort()
    ranks = np.empty(hashes.size, np.uint32)
    once = rank_by_rarity(packed, offsets.size - 1, ranks)
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        ranks[start:stop].sort()
    return ranks, once
