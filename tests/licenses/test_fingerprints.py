import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.licenses import spdx
from stack_platform.licenses.fingerprints import FILE, FingerprintIndex, hash_word, index, pack_grams


def test_a_word_has_the_same_number_in_every_process():
    assert hash_word("license") == 16019528421753852960
    assert hash_word("license") != hash_word("licenses")
    assert hash_word("noncommercially") != hash_word("noncommercial")  # more than eight letters count


def load():
    with np.load(FILE) as arrays:
        return FingerprintIndex(dict(arrays))


def test_index_is_small_and_loads_fast(cpu_seconds):
    assert FILE.stat().st_size < 5_000_000
    assert cpu_seconds(load, enough=0.5) < 0.5
    loaded = load()
    assert len(loaded.lengths) > 10_000


def test_index_holds_numbers_and_no_text():
    with np.load(FILE) as arrays:
        assert all(array.dtype.kind == "u" for array in arrays.values())
        about = arrays["about"].tobytes().decode()
    assert "permission is hereby" not in about.lower()


def test_every_rule_has_a_canonical_expression():
    known = index()
    rules = [known.rule(i) for i in range(0, len(known.lengths), 29)]
    assert all(
        spdx.normalize(rule.expression) == rule.expression for rule in rules if rule.kind != "exception"
    )
    assert {rule.kind for rule in rules} == {"text", "notice", "exception"}


def test_grams_are_the_words_themselves():
    keys = pack_grams(np.array([1, 2, 3, 4, 5], np.uint16))
    assert keys.tolist() == [0x0001000200030004, 0x0002000300040005]
    assert pack_grams(np.array([1, 2, 3], np.uint16)).tolist() == []


@given(st.integers(0, 13_000))
def test_anchors_lead_back_to_their_rule(i):
    known = index()
    i %= len(known.lengths)
    words = known.rule(i).forward.words
    rules, places, spots = known.find_anchors(words)
    own = rules == i
    assert own.sum() >= known.anchors[i]
    assert (places[own] == spots[own]).any()
