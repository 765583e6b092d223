import pytest

from stack_platform.scrub.detect import find_spans
from stack_platform.scrub.policy import Policy


def found(text, path="a.py", **settings):
    policy = Policy("strict", **settings)
    return [(span.type, text[span.start : span.end]) for span in find_spans(text, path, policy=policy)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x = 1\n# Author: Ada Lovelace\n", "Ada Lovelace"),
        ('"""Do it.\n\n@author Jean-Luc de la Tour\n"""\n', "Jean-Luc de la Tour"),
        ("__author__ = 'Grace B. Hopper'\n", "Grace B. Hopper"),
        ("x = 1\n# Signed-off-by: Żaneta Nowak <z>\n", "Żaneta Nowak"),
        ("x = 1\n# Written by Emil Müller.\n", "Emil Müller"),
    ],
)
def test_people_are_found_in_comments_and_strings(text, name):
    assert ("NAME", name) in found(text)


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ("x = 1  # TODO(gmurdock): later\n", "gmurdock"),
        ("x = '/home/gmurdock/src'\n", "gmurdock"),
        ("x = 'C:\\\\Users\\\\gmurdock\\\\src'\n", "gmurdock"),
        ("username = 'gmurdock'\n", "gmurdock"),
        ("x = 1  # thanks to @gmurdock\n", "gmurdock"),
    ],
)
def test_accounts_are_found_in_comments_and_strings(text, account):
    assert found(text) == [("USERNAME", account)]


@pytest.mark.parametrize(
    "text",
    [
        "author: Ada Lovelace = 1\n",
        "x = 1\n# Author: The Foo Project\n",
        "x = 1\n# Written by Example Software Foundation\n",
        "x = '/home/user/src'\n",
        "username = 'admin'\n",
        "x = 1  # by @npmcli/arborist\n",
    ],
)
def test_code_companies_and_everybody_are_no_names(text):
    assert found(text) == []


HEADER = (
    "# Copyright (c) 2020 Ada Lovelace\n# Author: Ada Lovelace\n# Licensed under the MIT license\n\nx = 1\n"
)


def test_license_headers_keep_their_names_by_default():
    assert found(HEADER) == []
    assert found(HEADER, license_headers="replace") == [("NAME", "Ada Lovelace")] * 2
    assert found("x = 1\n" + HEADER) == [("NAME", "Ada Lovelace")] * 2


def test_without_a_grammar_comment_lines_count():
    assert found("-- Author: Ada Lovelace\nauthor: Ada Lovelace\n", "a.hs") == [("NAME", "Ada Lovelace")]
    assert found("Author: Ada Lovelace\n", "README") == [("NAME", "Ada Lovelace")]


def test_several_names_of_a_line_are_all_found():
    text = "x = 1\n# @author Ada Lovelace, Grace Hopper <g@h> and Emmy Noether\n"
    assert [name for kind, name in found(text) if kind == "NAME"] == [
        "Ada Lovelace",
        "Grace Hopper",
        "Emmy Noether",
    ]


def test_names_count_from_the_strict_level_on():
    assert find_spans("x = 1\n# Author: Ada Lovelace\n", "a.py") == []
