import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.licenses.tokens import Tokens, as_phrase, decode, find_keywords, hold_keywords, windows


def test_markup_comment_leaders_and_spelling_do_not_matter():
    same = {
        Tokens(text.lower()).text
        for text in (
            b"This licence is\nfree software",
            b" * This license\n * is free software",
            b"dnl This license is\ndnl free software",
            b"<p>This license <b>is</b> free software</p>",
            b'"This license is\\n" "free software\\n"',
        )
    }
    assert same == {" this license is free software "}


def test_a_plus_after_a_version_is_a_token():
    assert Tokens(b"gpl-2.0+ and c++ and 1 + 2").text == " gpl 2 0 + and c and 1 2 "


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
    if "license" not in begins and "holder" not in begins:  # spelling may differ there
        assert Tokens(lowered[start:end]).text.split()[0][:1] == begins[:1]
    assert ends


def test_hidden_words_are_found_no_more():
    tokens = Tokens(b"alpha beta gamma beta")
    assert tokens.hide_phrases((as_phrase("beta"),)) == 2
    assert tokens.rest.split() == ["alpha", "~~~~", "gamma", "~~~~"]
    assert tokens.text.split() == ["alpha", "beta", "gamma", "beta"]


@given(
    st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([b"# LICENSE", b"Permission", b"x = 1", b""])))
)
def test_the_batch_prefilter_finds_what_the_single_one_finds(contents):
    held = hold_keywords(pa.array(contents, pa.large_binary())).to_pylist()
    wide = [c[:2] in (b"\xff\xfe", b"\xfe\xff") for c in contents]
    assert held == [w or bool(find_keywords(c.lower())) for c, w in zip(contents, wide, strict=True)]


def test_the_prefilter_reads_strings_and_nulls():
    held = hold_keywords(pa.array(["Licensed", None, "def f(): pass"], pa.large_string()))
    assert held.to_pylist() == [True, False, False]


def test_long_texts_are_read_around_their_keywords_only():
    assert windows(100, [5]) == [(0, 100)]
    assert windows(100_000, [50_000, 50_100]) == [(49_200, 50_900)]
    assert windows(100_000, [10, 99_990]) == [(0, 810), (99_190, 100_000)]


def test_utf16_becomes_readable():
    assert b"license" in decode("a license".encode("utf-16"))
    assert decode(b"\xff\xfe\x00") is not None
