import pytest

from stack_platform.languages.detect import detect_language
from stack_platform.languages.prose import has_markup, is_prose, is_recorded, is_sentences

PROSE = [
    b"The river rose in the night, and nobody in the village slept until it fell again.\n",
    b"Shopping\n\n- bread\n- butter and two lemons\n- tea (the green one)\n\nThanks!\n",
    b"Der Fluss stieg in der Nacht, und niemand schlief, weil es so laut geregnet hatte.\n",
    b"THE WORK COMES AS IT IS, and its makers do not promise anything about what it is good for.\n" * 4,
]
CODE = [
    b"def area(width, height):\n    return width * height\n",
    b"int main(void)\n{\n    return 0;\n}\n",
    b"SELECT name FROM people WHERE age > 30;\n",
    b"#!/bin/sh\nset -e\necho $HOME\n",
]
RECORDED = [
    b"2021-01-02 10:00:00 INFO started\n2021-01-02 10:00:01 INFO stopped\n",
    b'10.0.0.1 - - [01/Jan/2021] "GET / HTTP/1.1" 200\n' * 3,
    b"1.5 2.5 -3\n4e5 6.7 8\n",
    b"TWFuIGlzIGRpc3Rpbmd1aXNoZWQsIG5vdCBvbmx5IGJ5\n" * 3,
    b"<?" * 100,
]


@pytest.mark.parametrize("content", PROSE)
def test_sentences_are_prose_and_text(content):
    assert is_prose(content)
    assert not is_recorded(content)
    assert detect_language("", content) in {"Text", None}


@pytest.mark.parametrize("content", CODE)
def test_code_is_neither_prose_nor_recorded(content):
    assert not is_prose(content)
    assert not is_recorded(content)


@pytest.mark.parametrize("content", RECORDED)
def test_what_programs_write_down_is_recorded_and_gets_no_guess(content):
    assert is_recorded(content)
    assert detect_language("", content) is None


@pytest.mark.parametrize("content", [b"", b"\n\n", b"word"])
def test_texts_of_a_word_or_none_are_not_prose(content):
    assert not is_prose(content)


LICENSE = b"""Copyright (c) 2001, The Authors of "Shop". All rights reserved.

You may copy, change and sell this work, in whole or in part, on these conditions:

  * every copy keeps this notice and the list of its authors;
  * no name of an author is used to advertise what was made from it.

THIS WORK IS GIVEN AS IT IS. ITS AUTHORS ARE NOT LIABLE FOR ANYTHING THAT COMES OF IT, EVEN IF
THEY WERE TOLD <https://example.org/warning> THAT IT MIGHT.
"""
COMMENTED = b"".join(b"# " + line + b"\n" for line in LICENSE.splitlines())


@pytest.mark.parametrize("content", [LICENSE, COMMENTED, LICENSE * 20])
@pytest.mark.parametrize("name", ["", "LICENSE-OTHER", "NOTICE"])
def test_licenses_and_notices_are_text_whatever_their_words(name, content):
    assert is_sentences(content)
    assert detect_language(name, content) == "Text"


@pytest.mark.parametrize("content", [*CODE, *RECORDED, b"", b"\n", b"#\n#\n"])
def test_code_and_records_are_no_sentences(content):
    assert not is_sentences(content)


def test_comments_above_code_are_no_sentences():
    code = b"".join(b"int f%d(int a) {\n    return g(a);\n}\n" % n for n in range(5))
    assert not is_sentences(COMMENTED + code)


@pytest.mark.parametrize(
    "sign", [b"IT IS GIVEN ``AS IS'' TO ALL.\n", b"<year> <name of the owner>\n", b"The work\n=====\n"]
)
def test_signs_of_plain_text_are_no_markup(sign):
    assert not has_markup(sign + LICENSE)
    assert detect_language("", LICENSE + sign) == "Text"


def test_sentences_with_markup_are_of_a_language_for_readers():
    content = b"# Shop\n\n" + LICENSE + b"\nSee [the list](https://example.org/list) of the shops.\n"
    assert is_sentences(content)
    assert has_markup(content)
    assert detect_language("", content) == "Markdown"
