import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.dedup.shingles import reference_shingles, reference_tokens, shingle_sets, texts_of
from stack_platform.errors import SchemaError

MASK = (1 << 64) - 1
TRICKY = "İıſßẞΣσςK²½_ǅﬁ٣߿中文あ한🎉\u0301\u200d\u00a0\u0378\ufffd\U0001d7d8\U0010ffff\x00\x7f\n\t.:'-"
texts = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.text(alphabet=TRICKY, max_size=6),
        st.sampled_from(["if", "Return", "x1", "_", "()"]),
    ),
    max_size=30,
).flatmap(lambda words: st.sampled_from([" ", "", "\n", "(", "—"]).map(lambda gap: gap.join(words)))


def mixed(value: int) -> int:
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor & MASK
    return value ^ value >> 33


def hash_of(shingle: tuple[str, ...]) -> int:
    """Compute the documented hash in Python's integers."""
    rolled = 0
    for token in shingle:
        value = 0xCBF29CE484222325
        for byte in token.encode():
            value = (value ^ byte) * 0x100000001B3 & MASK
        rolled = (rolled * 0x9E3779B97F4A7C15 + mixed(value)) & MASK
    return mixed(rolled) >> 32


def sets_of(column: pa.Array, ngram: int = 5) -> list[list[int]]:
    found: list[list[int]] = [[-1]] * len(column)
    for part in shingle_sets(column, ngram):
        for row, start, stop in zip(part.rows, part.offsets[:-1], part.offsets[1:], strict=True):
            found[row] = part.hashes[start:stop].tolist()
    return found


def expected(text: str, ngram: int = 5) -> list[int]:
    return sorted({hash_of(shingle) for shingle in reference_shingles(text, ngram)})


@settings(deadline=None)
@given(st.lists(texts, max_size=6), st.sampled_from([pa.string(), pa.large_string()]), st.integers(1, 6))
def test_compiled_shingles_are_those_of_the_definition(contents, kind, ngram):
    assert sets_of(pa.array(contents, kind), ngram) == [expected(text, ngram) for text in contents]


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=80), texts.map(str.encode)), max_size=6))
def test_bytes_that_are_not_utf8_separate_tokens(contents):
    texts = [raw.decode("utf-8", errors="replace") for raw in contents]
    assert sets_of(pa.array(contents, pa.binary())) == [expected(text) for text in texts]


@pytest.mark.parametrize("of_one_width", [True, False])
def test_every_code_point_separates_or_joins_as_in_the_definition(of_one_width):
    """Those whose lower case has another width, and a sigma, make Python lower the whole text."""
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    if of_one_width:
        points = [c for c in points if len(c.lower().encode()) == len(c.encode()) and c != "Σ"]
    text = " ".join(f"Q{point}z" for point in points)
    (rewritten,) = texts_of(pa.array([text]))
    tokens = re.findall(rb"[0-9a-z_\x80-\xff]+", rewritten.data.tobytes().lower())
    assert [token.decode() for token in tokens] == reference_tokens(text)


def test_a_lower_case_that_depends_on_its_neighbours_is_pythons():
    assert sets_of(pa.array(["ΟΔΥΣΣΕΥΣ. ΣΑΣ"]), ngram=1) == [expected("οδυσσευς σας", ngram=1)]


@pytest.mark.parametrize("size", [2047, 2048, 2049, 4096, 70_000])
def test_texts_longer_than_a_block_lose_no_shingle(size):
    text = " ".join(f"t{number}" for number in range(size + 4))
    (found,) = sets_of(pa.array([text, ""]).slice(0, 1))
    assert len(found) == size
    assert found == sorted(found)


def test_slices_nulls_and_chosen_rows_keep_their_places():
    column = pa.array(["x", "a b c d e", None, "é b c d e", "", "f g h i j"], pa.large_string()).slice(1)
    assert sets_of(column) == [expected("a b c d e"), [], expected("é b c d e"), [], expected("f g h i j")]
    chosen = [row for part in shingle_sets(column, rows=np.array([0, 2, 4])) for row in part.rows.tolist()]
    assert sorted(chosen) == [0, 2, 4]


def test_many_texts_outside_ascii_are_rewritten_in_bounded_groups(monkeypatch):
    monkeypatch.setattr("stack_platform.dedup.shingles.GROUP_BYTES", 100)
    contents = [f"é{number} b c d e f" for number in range(50)]
    assert len(list(texts_of(pa.array(contents)))) > 5
    assert sets_of(pa.array(contents)) == [expected(text) for text in contents]


@pytest.mark.parametrize(
    "column", [pa.array([], pa.string()), pa.array(["", ""]), pa.array([None, None], pa.binary())]
)
def test_columns_without_text_have_empty_sets(column):
    assert sets_of(column) == [[]] * len(column)


def test_a_column_of_numbers_is_refused():
    with pytest.raises(SchemaError, match="int64; cast it to large_string"):
        list(texts_of(pa.array([1, 2])))
