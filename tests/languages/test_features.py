import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.languages.features import SIZE, features, without_first_comment

WORDS = b"everyone may copy this work and nobody is liable for what comes of it"
CODE = b"int area(int a, int b) {\n    return a * b;\n}\n"
COMMENTS = [
    b"/*\n" + (b" * " + WORDS + b"\n") * 6 + b" */\n",
    (b"// " + WORDS + b"\n") * 6,
    (b"# " + WORDS + b"\n#\n") * 6,
    (b"; " + WORDS + b"\n") * 6,
    b"(*\n" + (WORDS + b"\n") * 6 + b"*)\n",
    b"#!/bin/sh\n" + (b"# " + WORDS + b"\n") * 6,
]


@pytest.mark.parametrize("comment", COMMENTS)
def test_of_a_long_comment_at_the_start_the_first_and_last_line_stay(comment):
    left = without_first_comment(comment + CODE)
    assert left.endswith(CODE)
    assert left.startswith(comment[:9])
    assert len(left) < len(comment) / 2 + len(CODE)


@pytest.mark.parametrize(
    "text",
    [b"", b"\n\n", CODE, b"// short\n" + CODE, CODE + COMMENTS[0], b"/* never closed " + WORDS * 9],
)
def test_other_texts_stay_as_they_are(text):
    assert without_first_comment(text) == text


def test_preprocessor_lines_are_no_comment():
    text = b"".join(b"#define NAME_%03d a value that is long enough to count as code\n" % n for n in range(9))
    assert without_first_comment(text) == text


@given(st.binary(max_size=400) | st.text("/*#-;\n a", max_size=400).map(str.encode))
def test_features_are_finite_and_in_range(content):
    numbers, strengths = features(content)
    assert len(numbers) == len(strengths)
    assert (numbers < SIZE).all()
    assert ((strengths >= 1) & np.isfinite(strengths)).all()


def test_line_ends_and_digits_do_not_matter():
    unix, windows = features(b"a = 12;\nb = 3;\n"), features(b"a = 99;\r\nb = 4;\r\n")
    assert np.array_equal(unix[0], windows[0])


@pytest.mark.parametrize(
    "text", [b"# " * 50_000, b"#\n" * 50_000, b"/*" * 50_000, b" \n" * 50_000, b"(" * 99_999]
)
def test_hostile_texts_are_read_in_time(text):
    assert len(features(text)[0])
