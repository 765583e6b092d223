import numpy as np

from stack_platform.dedup.bands import colliding, components, number_buckets


def test_files_share_a_bucket_exactly_where_a_band_agrees():
    keys = np.random.default_rng(3).integers(0, 9, (60, 4), dtype=np.uint32)
    buckets, starts = number_buckets(keys)
    for one in range(60):
        for other in range(60):
            together = (buckets[one] == buckets[other]) & (buckets[one] != -1)
            assert one == other or np.array_equal(together, keys[one] == keys[other])
    assert np.array_equal(np.bincount(buckets[buckets >= 0]), np.diff(starts))


def test_equal_keys_in_different_bands_do_not_meet():
    buckets, starts = number_buckets(np.array([[1, 2], [2, 1]], np.uint32))
    assert (buckets == -1).all()
    assert starts.tolist() == [0]


def test_no_files_make_no_buckets():
    buckets, starts = number_buckets(np.empty((0, 2), np.uint32))
    assert (buckets.shape, starts.tolist()) == ((0, 2), [0])


def grouped(keys, lanes=None, settled=None, eligible=None, least_equal=1):
    count = len(keys)
    keys = np.array(keys, np.uint32)
    lanes = np.zeros((count, 2), np.uint8) if lanes is None else np.array(lanes, np.uint8)
    everybody, nobody = np.ones(count, bool), np.zeros(count, bool)
    eligible = everybody if eligible is None else np.array(eligible)
    settled = nobody if settled is None else np.array(settled)
    return components(keys, lanes, eligible, settled, least_equal).tolist()


def test_components_join_across_bands_and_leave_singles_out():
    assert grouped([[1, 5], [2, 6], [1, 7], [9, 7], [8, 8]]) == [0, -1, 0, 0, -1]


def test_unlike_lanes_do_not_join_unless_the_bucket_is_large():
    assert grouped([[1], [1], [1]], [[0, 1], [2, 3], [0, 4]]) == [0, -1, 0]
    many = [[place, place] for place in range(70)]
    assert grouped([[1]] * 70, many) == [0] * 70


def test_settled_and_short_files_are_looked_for_only_by_others():
    keys = [[1], [1], [2], [2], [3], [3]]
    assert grouped(keys, settled=[True, True, True, False, False, False]) == [-1, -1, 2, 2, 4, 4]
    assert grouped(keys, eligible=[True, False, True, True, False, False]) == [-1, -1, 2, 2, -1, -1]


def test_settled_files_of_a_large_bucket_join_only_where_an_open_one_is_like_them():
    lanes = [[place, place] for place in range(70)] + [[3, 99]]
    labels = grouped([[1]] * 71, lanes, settled=[True] * 70 + [False])
    assert [place for place, label in enumerate(labels) if label >= 0] == [3, 70]


def test_colliding_finds_the_rows_that_share_a_key_of_the_same_band():
    dice = np.random.default_rng(8)
    keys, others = (dice.integers(0, 5000, (count, 3), dtype=np.uint32) for count in (900, 40))
    rows = np.arange(0, 900, 2)
    expected = [bool((keys[row] == others).any()) for row in rows]
    assert colliding(keys, rows, others).tolist() == expected
    assert 0 < sum(expected) < len(rows)
    assert not colliding(keys, rows, others[:0]).any()
