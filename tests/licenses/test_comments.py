import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.licenses.comments import split_comments
from stack_platform.licenses.detect import detect_license
from stack_platform.licenses.policy import license_type
from stack_platform.licenses.tokens import find_keywords

PIECES = st.sampled_from(
    [
        b"# license\n",
        b"// permission\n",
        b"/* copying */",
        b"x = 1\n",
        b'"""doc"""\n',
        b"\n",
        b"# note\n",
        b"gpl = 2\n",
    ]
)


def test_the_comment_with_the_keyword_is_cut_out_of_its_surroundings():
    content = b"# a license\nx = 1\n# note\n"
    header = split_comments(content, [4])
    assert header.speaking == b"# a license\n     \n      \n"
    assert header.around == b"           \n     \n# note\n"
    assert content[header.start : header.end] == b"# a license"
    assert not header.more


def test_a_docstring_below_a_header_is_another_comment():
    content = b'# a license\n"""what it does"""\n'
    assert b"what" not in split_comments(content, [4]).speaking


def test_keywords_in_code_are_left_to_the_whole_range():
    assert split_comments(b"# license\nlicense = 1\n", [2, 10]) is None


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_the_parts_are_the_same_bytes_or_blanks(content):
    header = split_comments(content, find_keywords(content))
    if header is not None:
        assert len(header.speaking) == len(header.around) == len(content)
        for part in (header.speaking, header.around):
            assert all(a in (b, 32) for a, b in zip(part, content, strict=True))


@pytest.mark.parametrize(
    "restriction",
    [
        "For non-commercial use only.",
        "Not for military use.",
        "This software may not be sold.",
        "You must not use this software to train models.",
        "Only employees of Example may use this file.",
    ],
)
@pytest.mark.parametrize(
    "beside",
    ['"""{}"""\n', "import os\n\n# {}\n", "\n\n# {}\n", "import os\n\ndef f():\n    # {}\n    pass\n"],
)
def test_a_restriction_in_the_next_comment_is_seen(texts, restriction, beside):
    header = "".join(f"# {line}\n" for line in texts["MIT"].splitlines())
    assert license_type(detect_license(header.encode(), "a.py").expression) == "permissive"
    content = header + beside.format(restriction)
    assert license_type(detect_license(content.encode(), "a.py").expression) != "permissive"


def test_a_second_license_in_the_next_comment_is_seen(texts):
    header = "".join(f"# {line}\n" for line in texts["MIT"].splitlines())
    content = header + "import os\n# This file is licensed under the GPL version 2.\n"
    assert detect_license(content.encode(), "a.py").expression == "GPL-2.0-only AND MIT"
