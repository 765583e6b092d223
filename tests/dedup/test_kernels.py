import datasketch
import numpy as np

from stack_platform.dedup.grouping import equal_lanes
from stack_platform.dedup.kernels import compiled, condense
from stack_platform.dedup.matching import rank_by_rarity, shared_hashes, similarity


def test_a_function_whose_machine_code_can_be_kept_nowhere_still_compiles():
    namespace: dict = {}
    exec("def double(number):\n    return 2 * number", namespace)  # it has no file, hence no cache
    assert compiled(namespace["double"])(21) == 42


def test_similarity_is_the_share_of_common_hashes_or_below_the_threshold():
    one, other = np.array([1, 3, 5, 2**32 - 1], np.uint32), np.array([3, 4, 5, 6, 2**32 - 1], np.uint32)
    assert similarity(one, other, 0.5) == similarity(other, one, 0.5) == 3 / 6
    assert similarity(one, other, 0.51) == -1.0
    assert similarity(one, one, 1.0) == 1.0
    assert similarity(one, np.array([2], np.uint32), 0.1) == -1.0


def test_giving_up_never_misses_an_overlap_that_is_enough():
    dice = np.random.default_rng(2)
    for _ in range(200):
        one = np.unique(dice.integers(0, 400, dice.integers(1, 300)).astype(np.uint32))
        other = np.unique(dice.integers(0, 400, dice.integers(1, 300)).astype(np.uint32))
        shared = np.intersect1d(one, other).size
        assert shared_hashes(one, other, shared) == shared
        assert shared_hashes(one, other, shared + 1) in (shared, -1)


def test_equal_lanes_are_counted_by_place():
    assert equal_lanes(np.array([1, 2, 3], np.uint8), np.array([1, 3, 3], np.uint8)) == 2


def test_shingles_are_ranked_from_the_rarest_on():
    hashes = np.array([7, 9, 7, 5, 9, 7, 4], np.uint32)
    packed = np.sort(hashes.astype(np.uint64) << np.uint64(32) | np.arange(7, dtype=np.uint64))
    ranks = np.empty(7, np.uint32)
    assert rank_by_rarity(packed, 3, ranks) == 2
    assert ranks.tolist() == [3, 2, 3, 1, 2, 3, 0]


def test_what_is_kept_of_a_signature_tells_what_datasketchs_b_bit_sketch_tells():
    dice = np.random.default_rng(6)
    texts = [dice.integers(0, 1 << 32, 400, dtype=np.uint64).tolist()]
    texts.append(texts[0][:330] + dice.integers(0, 1 << 32, 70, dtype=np.uint64).tolist())
    hashes = []
    for text in texts:
        minhash = datasketch.MinHash(num_perm=256, seed=1, hashfunc=lambda value: value, scheme="affine32")
        minhash.update_batch(text)
        hashes.append(minhash)
    signatures = np.array([minhash.hashvalues for minhash in hashes], np.uint32)
    keys, lanes = np.empty((2, 42), np.uint32), np.empty((2, 256), np.uint8)
    condense(signatures, 6, keys, lanes)
    assert np.array_equal(lanes, (signatures & 255).astype(np.uint8))
    for band in range(42):
        agree = np.array_equal(signatures[0, 6 * band : 6 * band + 6], signatures[1, 6 * band : 6 * band + 6])
        assert (keys[0, band] == keys[1, band]) == agree
    one, other = (datasketch.bBitMinHash(minhash, b=8) for minhash in hashes)
    estimate = (equal_lanes(lanes[0], lanes[1]) / 256 - 1 / 256) / (1 - 1 / 256)
    assert abs(one.jaccard(other) - estimate) < 0.01
