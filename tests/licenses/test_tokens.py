import re
from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.licenses.tokens import (
    KEYWORDS,
    Tokens,
    as_phrase,
    decode,
    find_keywords,
    locate_keywords,
    windows,
)

LINES = st.sampled_from(
    [b"# LICENSE\n", b"Permission ", b"x = 1\n" * 300, b"\n", b"public", b" ", b"domain", b"y" * 3000, b"GPL"]
)


def test_markup_comment_leaders_and_spelling_do_not_matter():
    same = {
        Tokens(text.lower()).text
        for text in (
            b"This licence is\nfree software",
            b" * This license\n * is free software",
            b"dnl This license is\ndnl free software",
            b"dnl This license is free software",
            b"<p>This license <b>is</b> free software</p>",
            b'"This license is\\n" "free software\\n"',
        )
    }
    assert same == {" this license is free software "}


def test_a_plus_after_a_version_is_a_token():
    tokens = Tokens(b"gpl-2.0+ and c++ and 1 + 2++a")
    assert tokens.text == " gpl 2 0 + and c and 1 2 + a "
    assert tokens.span(8, 10) == (7, 8)
    assert tokens.span(24, 28) == (26, 29)


@given(st.binary(max_size=300), st.data())
def test_spans_lead_back_to_the_bytes(content, data):
    lowered = content.lower()
    tokens = Tokens(lowered)
    spaces = [i for i, char in enumerate(tokens.text) if char == " "]
    if len(spaces) < 2 or tokens.text.strip() == "":
        return
    first = data.draw(st.integers(0, len(spaces) - 2))
    last = data.draw(st.integers(first + 1, len(spaces) - 1))
    start, end = tokens.span(spaces[first], spaces[last])
    assert 0 <= start < end <= len(lowered)
    begins, ends = tokens.text[spaces[first] :].split()[0], tokens.text[: spaces[last]].split()[-1]
    if "license" not in begins and "holder" not in begins and begins not in ("+", "c", "dnl", "rem"):
        assert Tokens(lowered[start:end]).text.split()[0][:1] == begins[:1]
    assert ends


def test_hidden_words_are_found_no_more():
    tokens = Tokens(b"alpha beta gamma beta")
    assert tokens.hide_phrases((as_phrase("beta"),)) == 2
    assert tokens.rest.split() == ["alpha", "~~~~", "gamma", "~~~~"]
    assert tokens.text.split() == ["alpha", "beta", "gamma", "beta"]


@given(st.lists(st.lists(st.one_of(LINES, st.binary(max_size=80)), max_size=8).map(b"".join)), st.data())
def test_the_batch_prefilter_finds_what_a_plain_search_finds(contents, data):
    array = pa.array([b"license", *contents], pa.large_binary())
    start = data.draw(st.integers(0, len(contents)))
    wide = [c[:2] in (b"\xff\xfe", b"\xfe\xff") for c in contents]
    plain = [[m.start() for m in re.finditer(KEYWORDS.encode(), c.lower())] for c in contents]
    expected = [[0], *(None if w else hits for w, hits in zip(wide, plain, strict=True))]
    assert locate_keywords(array.slice(start)) == expected[start:]
    assert [find_keywords(c) for c in contents] == plain


def test_the_prefilter_reads_strings_and_nulls():
    assert locate_keywords(pa.array(["Licensed", None, "def f(): pass"], pa.large_string())) == [[0], [], []]
    assert locate_keywords(pa.array([None], pa.binary())) == [[]]
    assert locate_keywords(pa.array([], pa.string())) == []


def test_long_texts_are_read_around_their_keywords_only():
    assert windows(100, [5]) == [(0, 100)]
    assert windows(100_000, [50_000, 50_100]) == [(49_200, 50_900)]
    assert windows(100_000, [10, 99_990]) == [(0, 810), (99_190, 100_000)]


def test_utf16_becomes_readable():
    assert b"license" in decode("a license".encode("utf-16"))
    assert decode(b"\xff\xfe\x00") is not None


MIXED = st.lists(
    st.sampled_from(
        [
            b"re",
            b"distributed",
            b"LICENCE",
            b"gpl",
            b"cc0",
            b"cc",
            b" ",
            b"may be used",
            b"you wan",
            b"t",
            b"\xff",
        ]
    )
)


@given(st.one_of(MIXED.map(b"".join), st.binary(max_size=200)))
def test_keywords_are_those_of_the_pattern(content):
    expected = [match.start() for match in re.finditer(KEYWORDS.encode(), content.lower())]
    assert find_keywords(content) == expected


def test_words_are_those_left_when_first_asked_for():
    tokens = Tokens(b"this license and that")
    tokens.hide([(0, 13)])
    assert {"and", "that"} <= tokens.words
    assert "license" not in tokens.words


def test_long_lines_of_copyright_marks_take_linear_time(cpu_seconds):
    assert cpu_seconds(lambda: Tokens(b"(c) copyright " * 200_000), enough=3) < 3


@given(
    st.lists(st.sampled_from([b"this", b"license", b"must", b"not", b"be", b"sold", b"gpl"]), max_size=30),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=6),
)
def test_a_search_in_what_is_not_hidden_finds_what_a_search_in_all_finds(words, ranges):
    tokens = Tokens(b" ".join(words))
    spaces = tokens.spaces.tolist()
    for at in range(2):  # hidden in two steps, as the tiers do
        chosen = [(min(a, len(spaces) - 1), min(a + n, len(spaces) - 1)) for a, n in ranges[at::2]]
        tokens.hide([(spaces[start], spaces[end]) for start, end in chosen])
    pattern = re.compile(r" (?:this license|must|not be|sold|gpl)(?: [a-z]+)? ")
    everywhere = [match.span() for match in pattern.finditer(tokens.rest)]
    assert [match.span() for match in tokens.search(pattern)] == everywhere
    assert tokens.words == {word for word in tokens.rest.split() if "~" not in word}


@given(st.text("ab 2+.-\n", max_size=60))
def test_tokens_start_and_end_where_a_plain_search_says(text):
    tokens = Tokens(text.encode())
    plain = [match.span() for match in re.finditer(r"[a-z0-9]+|(?<=[0-9])\+", text)]
    spaces = tokens.spaces.tolist()
    assert [tokens.span(*pair) for pair in pairwise(spaces)] == plain
