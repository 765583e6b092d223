import numpy as np

from stack_platform.dedup.bands import candidate_buckets


def test_files_share_a_bucket_exactly_where_a_band_agrees():
    random = np.random.default_rng(3)
    signatures = random.integers(0, 2, (60, 12), dtype=np.uint32)
    buckets = candidate_buckets(signatures, np.ones(60, bool), bands=4, rows=3)
    for one in range(60):
        for other in range(60):
            for band in range(4):
                lanes = slice(band * 3, band * 3 + 3)
                agree = one != other and np.array_equal(signatures[one, lanes], signatures[other, lanes])
                together = buckets.of_file[one, band] == buckets.of_file[other, band] != -1
                assert agree == (together and one != other)


def test_members_are_ascending_and_match_the_files_buckets():
    signatures = np.random.default_rng(4).integers(0, 3, (40, 6), dtype=np.uint32)
    buckets = candidate_buckets(signatures, np.ones(40, bool), bands=3, rows=2)
    for bucket in range(buckets.starts.size - 1):
        members = buckets.members[buckets.starts[bucket] : buckets.starts[bucket + 1]]
        assert members.size > 1
        assert np.all(np.diff(members) > 0)
        assert np.array_equal(members, np.flatnonzero((buckets.of_file == bucket).any(axis=1)))


def test_files_that_are_not_eligible_are_in_no_bucket():
    signatures = np.zeros((5, 4), np.uint32)
    buckets = candidate_buckets(signatures, np.array([True, False, True, False, False]), bands=2, rows=2)
    assert buckets.members.tolist() == [0, 2, 0, 2]
    assert np.all(buckets.of_file[[1, 3, 4]] == -1)


def test_equal_lanes_in_different_bands_do_not_meet():
    signatures = np.array([[1, 2, 8, 9], [8, 9, 1, 2]], np.uint32)
    assert candidate_buckets(signatures, np.ones(2, bool), bands=2, rows=2).members.size == 0


def test_no_files_make_no_buckets():
    buckets = candidate_buckets(np.empty((0, 4), np.uint32), np.empty(0, bool), bands=2, rows=2)
    assert (buckets.of_file.shape, buckets.starts.tolist(), buckets.members.size) == ((0, 2), [0], 0)
