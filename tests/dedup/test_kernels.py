import numpy as np

from stack_platform.dedup.kernels import compiled, equal_lanes, similarity


def test_a_function_whose_machine_code_can_be_kept_nowhere_still_compiles():
    namespace: dict = {}
    exec("def double(number):\n    return 2 * number", namespace)  # it has no file, hence no cache
    assert compiled(namespace["double"])(21) == 42


def test_similarity_is_the_share_of_common_hashes():
    one, other = np.array([1, 3, 5, 2**32 - 1], np.uint32), np.array([3, 4, 5, 6, 2**32 - 1], np.uint32)
    assert similarity(one, other) == similarity(other, one) == 3 / 6
    assert similarity(one, one) == 1.0
    assert similarity(one, np.array([2], np.uint32)) == 0.0


def test_equal_lanes_are_counted_by_place():
    assert equal_lanes(np.array([1, 2, 3], np.uint32), np.array([1, 3, 3], np.uint32)) == 2
