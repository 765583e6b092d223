import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.dedup.config import NearDuplicateConfig
from stack_platform.dedup.scratch import ShingleFile
from stack_platform.dedup.selection import ShardConfig, select
from stack_platform.dedup.signatures import Signatures

CONFIG = NearDuplicateConfig(num_perm=32, bands=8, rows=2)
SHARDS = [
    ShardConfig(),
    ShardConfig(rarest_from=2),
    ShardConfig(hashes=60, files=7),
    ShardConfig(hashes=1, files=1),
    ShardConfig(hashes=40, files=3, rarest_from=2),
]


def population(seed: int, count: int) -> list[set[int]]:
    """Make sets of which many are edits of earlier ones, around the threshold."""
    dice = random.Random(seed)
    sets: list[set[int]] = []
    for _ in range(count):
        if not sets or dice.random() < 0.2:
            sets.append({dice.randrange(1 << 32) for _ in range(dice.choice([1, 5, 20]))})
            continue
        base = dice.choice(sets)
        rate = dice.choice([0.0, 0.1, 0.17, 0.25])
        edited = {value for value in base if dice.random() > rate}
        sets.append(edited | {dice.randrange(1 << 32) for _ in range(len(base) - len(edited))} or base)
    return sets


def signed_by(sets: list[set[int]], config: NearDuplicateConfig = CONFIG) -> Signatures:
    dice = np.random.default_rng(1)
    salts = dice.integers(0, 1 << 32, config.num_perm, dtype=np.uint64)
    factor, shift = np.uint64(0x9E3779B97F4A7C15), np.uint64(40)
    elements = [np.array(sorted(one), np.uint64)[:, None] for one in sets]
    minima = np.array([np.min((one ^ salts) * factor >> shift, axis=0) for one in elements])
    signed = Signatures.empty(len(sets), config)
    signed.tokens[:] = 10
    signed.lanes[:] = minima & np.uint64(255)
    pairs = minima[:, : 2 * config.bands].reshape(len(sets), config.bands, 2)
    signed.keys[:] = (pairs[:, :, 0] * np.uint64(31) + pairs[:, :, 1]).astype(np.uint32)
    return signed


def lay_of(sets: list[set[int]]):
    def lay(into, wanted):
        for number in wanted.tolist()[::-1]:
            hashes = np.array(sorted(sets[number]), np.uint32)
            into.write(np.array([number]), hashes, np.array([0, hashes.size]))

    return lay


def walk(sets, signed, settled, config) -> dict[int, tuple[int, float]]:
    """Decide by definition: first kept file that shares a band, has enough equal lanes and is similar enough."""
    kept: list[int] = []
    gone = {}
    for file in range(len(sets)):
        if not settled[file]:
            for leader in kept:
                jaccard = len(sets[file] & sets[leader]) / len(sets[file] | sets[leader])
                lanes = int((signed.lanes[file] == signed.lanes[leader]).sum())
                shares = bool((signed.keys[file] == signed.keys[leader]).any())
                if shares and lanes >= config.least_equal and jaccard >= config.threshold:
                    gone[file] = (leader, jaccard)
                    break
        if file not in gone:
            kept.append(file)
    return gone


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.booleans())
def test_every_way_of_sharding_gives_the_walk_by_definition(seed, some_settled):
    sets = population(seed, 40)
    signed = signed_by(sets)
    settled = np.array([some_settled and file < 15 for file in range(40)])
    expected = walk(sets, signed, settled, CONFIG)
    for shard in SHARDS:
        found = select(signed, settled, lay_of(sets), CONFIG, shard=shard)
        gone = np.flatnonzero(found.witnesses >= 0).tolist()
        assert {file: (int(found.witnesses[file]), float(found.jaccards[file])) for file in gone} == expected


def test_threads_change_nothing_and_rounds_happen():
    sets = population(7, 400)
    signed = signed_by(sets)
    none = np.zeros(400, bool)
    one = select(signed, none, lay_of(sets), CONFIG, shard=ShardConfig(hashes=30, files=4))
    two = select(signed, none, lay_of(sets), CONFIG, 3, ShardConfig(hashes=500, files=50))
    assert np.array_equal(one.witnesses, two.witnesses)
    assert np.array_equal(one.jaccards, two.jaccards)
    assert (one.witnesses >= 0).sum() > 50


def test_no_more_shingles_are_in_memory_than_a_shard_holds(monkeypatch):
    sizes = []
    read = ShingleFile.read

    def spy(file, numbers):
        found = read(file, numbers)
        sizes.append((numbers.size, found[0].size))
        return found

    monkeypatch.setattr(ShingleFile, "read", spy)
    shared = set(range(40))
    sets = [shared | set(range(1000 * file, 1000 * file + file % 20)) for file in range(1, 301)]
    select(
        signed_by(sets), np.zeros(300, bool), lay_of(sets), CONFIG, shard=ShardConfig(hashes=300, files=1000)
    )
    assert len(sizes) > 10
    assert max(hashes for _, hashes in sizes) <= 2 * 300
    sizes.clear()
    select(signed_by(sets), np.zeros(300, bool), lay_of(sets), CONFIG, shard=ShardConfig(files=9))
    assert max(files for files, _ in sizes) <= 2 * 9


@pytest.mark.parametrize("rarest_from", [2, 10**9])
def test_a_large_group_just_below_the_threshold_stays_either_way(rarest_from):
    shared = set(range(100))
    sets = [shared | set(range(1000 + 50 * file, 1022 + 50 * file)) for file in range(300)]
    signed = signed_by(sets)
    shard = ShardConfig(rarest_from=rarest_from)
    found = select(signed, np.zeros(300, bool), lay_of(sets), CONFIG, shard=shard)
    assert (found.witnesses == -1).all()
    sets = [shared | set(range(1000 + 50 * file, 1021 + 50 * file)) for file in range(300)]
    found = select(signed_by(sets), np.zeros(300, bool), lay_of(sets), CONFIG, shard=shard)
    assert (found.jaccards[found.witnesses >= 0] == 100 / 142).all()
    assert (found.witnesses >= 0).sum() > 250


def test_files_nobody_resembles_are_not_read_again():
    sets = population(3, 30)
    asked = []

    def lay(into, wanted):
        asked.extend(wanted.tolist())
        lay_of(sets)(into, wanted)

    found = select(signed_by(sets), np.zeros(30, bool), lay, CONFIG)
    assert set(np.flatnonzero(found.witnesses >= 0)) <= set(asked) < set(range(30))


def test_groups_of_settled_files_alone_are_not_read():
    sets = [set(range(50))] * 5 + [set(range(100, 150))] * 2
    asked = []

    def lay(into, wanted):
        asked.extend(wanted.tolist())
        lay_of(sets)(into, wanted)

    found = select(signed_by(sets), np.arange(7) < 5, lay, CONFIG)
    assert asked == [5, 6]
    assert found.witnesses.tolist() == [-1] * 6 + [5]
