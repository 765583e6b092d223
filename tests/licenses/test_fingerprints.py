from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.licenses import spdx
from stack_platform.licenses.fingerprints import (
    FILE,
    FingerprintIndex,
    grams_of,
    hash_word,
    index,
    pack_grams,
)


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
    rules, places, spots = known.find_anchors(grams_of(words))
    own = rules == i
    assert own.sum() >= known.anchors[i]
    assert (places[own] == spots[own]).any()


@given(st.lists(st.integers(0, 13_000), min_size=1, max_size=4), st.integers(0, 5), st.booleans())
def test_tables_answer_as_a_search_of_the_file_does(numbers, step, unknown):
    """Numbers of words, anchors and missing 4-grams, against plain searches of what `fingerprints.npz` holds."""
    known = index()
    words = np.concatenate([known.rule(i % len(known.lengths)).forward.words[step:90] for i in numbers])
    words = np.append(words, np.zeros(2 if unknown else 0, np.uint16))
    grams = grams_of(words)
    keys = [
        sum(int(w) << 16 * (3 - k) for k, w in enumerate(words[i : i + 4])) for i in range(len(words) - 3)
    ]
    assert grams.keys.tolist() == keys
    anchors = anchors_of_the_file()
    expected = sorted((r, p, spot) for spot, key in enumerate(keys) for r, p in anchors.get(key, ()))
    assert sorted(zip(*(a.tolist() for a in known.find_anchors(grams)), strict=True)) == expected
    rules = np.array(sorted({i % len(known.lengths) for i in numbers}))
    slots = set(grams.slots.tolist()) | {0}
    plain = [sum(slot not in slots for slot in places_of(known, i)) for i in rules.tolist()]
    assert known.count_missing(grams, rules).tolist() == plain


def places_of(known, i):
    return known._places[known._starts[i] : known._starts[i + 1]].tolist()


@cache
def anchors_of_the_file():
    with np.load(FILE) as arrays:
        rows = zip(*(arrays[f"anchor_{name}"].tolist() for name in ("key", "rule", "place")), strict=True)
    anchors = {}
    for key, rule, place in rows:
        anchors.setdefault(key, []).append((rule, place))
    return anchors


@given(
    st.lists(
        st.one_of(
            st.sampled_from("license the warranties noncommercially redistributions 2 +".split()),
            st.text("abcdefghij0123456789", min_size=1, max_size=40),
        )
    )
)
def test_words_have_the_number_of_their_place_in_the_vocabulary(words):
    text = f" {' '.join(words)} " if words else " "
    with np.load(FILE) as arrays:
        vocabulary = arrays["vocabulary"]
    hashes = np.array([hash_word(word) for word in words], np.uint64)
    places = np.minimum(vocabulary.searchsorted(hashes), len(vocabulary) - 1)
    expected = np.where(vocabulary[places] == hashes, places + 1, 0)
    assert index().number(text, spaces_of(text)).tolist() == expected.tolist()


def spaces_of(text):
    return np.array([at for at, c in enumerate(text) if c == " "])
