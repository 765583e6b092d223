import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.languages.detect import detect_language
from stack_platform.languages.layouts import by_layout

DIGEST = b"0123456789abcdef" * 2
ROW = b"b/c.py,sha256=" + DIGEST + b"=,2\n"

LAYOUTS = [
    (b'{"a": [1, 2]}\n', ("JSON",)),
    (b"[]", ("JSON",)),
    (b'{\n  // why\n  "a": "// kept", /* b */\n}\n', ("JSON with Comments",)),
    (b'{"a": 1,}', ("JSON with Comments",)),
    (b"{a: 1}", ()),
    (b'{"a": 1', ()),
    (DIGEST + b"\n", ("Checksums",)),
    (DIGEST + b"  a.tar.gz\n" + DIGEST + b" *b.zip\n", ("Checksums",)),
    (b"MD5 (a.txt) = " + DIGEST, ("Checksums",)),
    (b"id: " + DIGEST, ()),
    (b"# of the server\nPORT=80\nHOST_NAME='a b'\n", ("Dotenv",)),
    (b"export PORT=80\n", ()),
    (b"NOW=$(date)\n", ()),
    (b'[tool]\nname = "x"\nsizes = [1, 2]\n', ("TOML",)),
    (b"id,name,size\n1,a,2\n2,b,3\n", ("CSV",)),
    (b"a (dev).py,sha256=" + DIGEST + b",1\n" + ROW * 99 + b"RECORD,,\n", ("CSV",)),
    (b"f(a, b, c);\nf(d, e, f);\nf(g, h, i);\n", ()),
    (b"words and words\n", ()),
    (b"", ()),
]


@pytest.mark.parametrize(("content", "languages"), LAYOUTS)
def test_the_layout_of_all_lines_tells(content, languages):
    assert by_layout(content) == languages


def test_sections_with_settings_leave_their_family_to_the_classifier():
    content = b"; of the server\n[main]\nhost = a.b\nport: 80\n[other]\nkey\nvalue = 1, 2\n"
    assert {"INI", "TOML"} <= set(by_layout(content))
    assert detect_language("", content) == "INI"


@given(st.binary(max_size=200) | st.text("[]{}\"':,=#\n aA1\\/*", max_size=200).map(str.encode))
def test_any_bytes_have_a_layout_or_none(content):
    assert isinstance(by_layout(content), tuple)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"' + b"\\" * 100_000, b"{" + b"/*" * 100_000])
def test_hostile_texts_are_not_slow_and_do_not_fail(content):
    assert by_layout(content) == ()
