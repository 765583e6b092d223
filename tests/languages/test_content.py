import pytest

from stack_platform.languages import content
from stack_platform.languages.content import by_content

CODE = b"alpha(beta) = gamma[delta] + epsilon * 3;\n" * 3


class Ranked:
    """A classifier whose ranking is given."""

    def __init__(self, *ranking):
        self.given = list(ranking)

    def ranking(self, _text, count):
        return self.given[:count]


def judged(text, *ranking):
    return by_content(lambda: Ranked(*ranking), text)


def test_the_best_score_names_the_language():
    assert judged(CODE, ("Lua", 0.2), ("Ruby", 0.1)) == "Lua"
    assert judged(CODE) is None


def test_a_score_under_the_least_certainty_names_nothing():
    assert judged(CODE, ("Lua", content.MIN_CERTAINTY + 0.001)) == "Lua"
    assert judged(CODE, ("Lua", content.MIN_CERTAINTY - 0.001)) is None


def test_a_rare_language_that_another_comes_near_to_needs_more():
    score = (content.MIN_CERTAINTY + content.MIN_CERTAINTY_OF_RARE) / 2
    assert judged(CODE, ("Python", score), ("Nemerle", score)) == "Python"
    assert judged(CODE, ("Nemerle", score), ("Python", score)) is None
    assert judged(CODE, ("Nemerle", score), ("Python", score / 2)) == "Nemerle"
    assert judged(CODE, ("Nemerle", content.MIN_CERTAINTY_OF_RARE), ("Python", score)) == "Nemerle"


def test_a_short_text_needs_certainty_and_a_lead():
    assert judged(b"f(x) = [1];", ("Lua", 0.3), ("Ruby", 0.1)) == "Lua"
    assert judged(b"f(x) = [1];", ("Lua", 0.3), ("Ruby", 0.29)) is None
    assert judged(b"f(x) = [1];", ("Lua", content.CERTAIN - 0.001)) is None


def test_control_bytes_need_certainty():
    assert judged(CODE + b"\x01\x02", ("Lua", content.CERTAIN)) == "Lua"
    assert judged(CODE + b"\x01\x02", ("Lua", content.CERTAIN - 0.001)) is None


def test_prose_is_text_where_nothing_is_certain():
    words = b"nobody slept until the water fell again behind bridges\n" * 2
    assert judged(words, ("Lua", content.CERTAIN - 0.001)) == "Text"


@pytest.mark.parametrize("text", [b"#! /usr/bin/unheard-of\n" + CODE, b"%PDF-1.7\n" + CODE])
def test_scripts_of_unknown_programs_and_documents_are_not_asked_for(text):
    assert judged(text, ("Lua", 0.9)) is None


def test_forms_are_judged_without_a_classifier():
    def fail():
        raise AssertionError("the classifier was asked")

    assert by_content(fail, b'{"a": 1}') == "JSON"
    assert by_content(fail, b"Name: a\nVersion: 2\n") is None
    assert by_content(fail, b"<?php echo 1;") == "PHP"
