import tempfile

import numpy as np
import pytest

from stack_platform.dedup.scratch import ShingleFile
from stack_platform.errors import SourceError


def sets_of(*sets: list[int]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, sets)])
    return np.array([value for one in sets for value in one], np.uint32), offsets


def test_sets_come_back_in_any_order():
    with ShingleFile(6) as file:
        file.write(np.array([4, 1]), *sets_of([7, 8, 9], [2**32 - 1]))
        file.write(np.array([0]), *sets_of([5, 6]))
        hashes, offsets = file.read(np.array([0, 1, 4, 0]))
        assert hashes.tolist() == [5, 6, 2**32 - 1, 7, 8, 9, 5, 6]
        assert offsets.tolist() == [0, 2, 3, 6, 8]
        assert file.sizes.tolist() == [2, 1, -1, -1, 3, -1]
        assert file.read(np.array([], np.int64))[0].size == 0


def test_of_a_number_written_twice_the_first_counts():
    with ShingleFile(2) as file:
        file.write(np.array([1, 1]), *sets_of([1, 2], [3]))
        file.write(np.array([1, 0]), *sets_of([4], [5]))
        hashes, offsets = file.read(np.array([1, 0]))
        assert (hashes.tolist(), offsets.tolist()) == ([1, 2, 5], [0, 2, 3])


def test_a_full_disk_says_where_and_what_to_do(monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with ShingleFile(1) as file, pytest.raises(SourceError, match="No space left on device; free some space"):
        file.write(np.array([0]), *sets_of([1]))
