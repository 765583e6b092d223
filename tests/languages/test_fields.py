import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.languages.detect import detect_language
from stack_platform.languages.fields import by_fields, is_field_block

METADATA = b"""Metadata-Version: 2.4
Name: shop
Version: 1.0
Author-email: a@example.org
Requires-Python: >=3.10
Requires-Dist: click; extra == "cli"
Description-Content-Type: text/markdown

# Shop

Sells *things*:

```python
import shop
```
"""
OF_NO_LANGUAGE = [
    METADATA,
    METADATA.replace(b"\n", b"\r\n"),
    b"Wheel-Version: 1.0\nGenerator: maker (1.0)\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    b"Origin: somewhere\nLabel: packages\nSuite: stable",
    b"Name: a\n continued here\n and here\nVersion: 2\n\nbody\n",
    b"Field-Number: value\n" * 2000,
]
NAMED = [
    (b"From: a@example.org\nTo: b@example.org\nSubject: hello\n\nGood morning.\n", "E-mail"),
    (b"Received: from a\n\tby b\nMessage-ID: <1@a>\n\ntext\n", "E-mail"),
    (b"From: a\nSubject: [PATCH] b\n\n---\ndiff --git a/b b/b\n", "Diff"),
    (b"Name: shop\nVersion: 1.0\nRelease: 1\n\n%description\nSells.\n\n%install\nmake\n", "RPM Spec"),
    (b"Manifest-Version: 1.0\nMain-Class: a.B\n\n", "JAR Manifest"),
    (
        b"Package: shop\nArchitecture: any\nMaintainer: A <a@b.c>\nDescription: sells\n .\n more\n",
        "Debian Package Control File",
    ),
    (b"User-agent: *\nDisallow: /private\n", "Robots Exclusion Rules"),
]
OTHERS = [
    b"",
    b"Key: value\n",
    b"Steps:\n  - run: x\nOther: y\n",
    b"Key: |\n  text\nOther: y\n",
    b"Title: a\nthis line is no field\n",
    b"default:\n    return x;\n",
    b"a: 1\nb: 2\n",
]


@pytest.mark.parametrize("content", OF_NO_LANGUAGE)
@pytest.mark.parametrize("name", ["", "METADATA", "INDEX"])
def test_fields_of_no_known_format_are_no_language_whatever_follows(name, content):
    assert is_field_block(content)
    assert detect_language(name, content) is None


@pytest.mark.parametrize(("content", "language"), NAMED)
def test_formats_are_told_by_their_own_fields(content, language):
    assert by_fields(content) == language
    assert detect_language("", content) == language


@pytest.mark.parametrize("content", OTHERS)
def test_what_is_not_all_fields_is_no_block(content):
    assert not is_field_block(content)
    assert by_fields(content) is None


def test_a_telling_name_wins_over_the_fields():
    assert detect_language("a.yml", b"Name: a\nVersion: 2\n") == "YAML"


@given(st.binary(max_size=200) | st.text("Ab-: \n\t|", max_size=200).map(str.encode))
def test_any_bytes_are_judged_and_only_blocks_are_named(content):
    assert is_field_block(content) or by_fields(content) is None
