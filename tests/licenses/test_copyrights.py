import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.licenses.copyrights import find_copyrights, merge_copyrights


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/* Copyright (c) 2031, Ada. All rights reserved. */", "Copyright (c) 2031, Ada. All rights reserved."),
        ("# SPDX-FileCopyrightText: 2031 Ada <ada@example.org>", "2031 Ada <ada@example.org>"),
        ("<!-- © 2031-2033 Ada Example -->", "© 2031-2033 Ada Example"),
        ("// (C) 2031 by Ada", "(C) 2031 by Ada"),
        (" * Copyright 2031 the Example authors", "Copyright 2031 the Example authors"),
        ("Copyright Example LLC", "Copyright Example LLC"),
        ("dnl Copyright (C) Ada Example", "Copyright (C) Ada Example"),
        ('__copyright__ = "Copyright 2031 by Ada"', "Copyright 2031 by Ada"),
        ("% Copyright \\copyright 2031 Ada", "Copyright \\copyright 2031 Ada"),
    ],
)  # fmt: skip
def test_copyright_lines_are_found(line, expected):
    assert find_copyrights(f"x\n{line}\ny")[0] == expected


@pytest.mark.parametrize(
    "line",
    [
        "The above copyright notice and this permission notice shall be included",
        "THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE",
        "Copyright (c) <year> <copyright holders>",
        "Copyright [yyyy] [name of copyright owner]",
        "Copyright (C) {{ year }} {{ holder }}",
        "1. Copyright and Related Rights.",
        "Copyright Holder means",
        "if (c) 2031;",
        "copyright = None",
        "Copyright 2031",
    ],
)
def test_words_about_copyright_are_none(line):
    assert find_copyrights(line) == ()


def test_a_line_goes_on_after_its_years_and_a_comma():
    assert find_copyrights("# Copyright (c) 2031\n#   Ada Example\n") == ("Copyright (c) 2031 Ada Example",)
    assert find_copyrights("Copyright (c) 2031 Ada,\nBob\n") == ("Copyright (c) 2031 Ada Bob",)


def test_lines_are_listed_once_in_their_order():
    text = "# Copyright 2031 Bob\n# Copyright 2031 Ada\n# Copyright  2031 Bob\n"
    assert find_copyrights(text) == ("Copyright 2031 Bob", "Copyright 2031 Ada")
    assert merge_copyrights([["Copyright 2031 Bob."], ["copyright 2031 BOB", "Copyright 2031 Ada"]]) == (
        "Copyright 2031 Ada",
        "Copyright 2031 Bob.",
    )


@given(st.text(alphabet="Copyright (c)©2031 Ada,\n#*/<>[]\"'-", max_size=300))
def test_any_text_is_survived(text):
    assert all(line == line.strip() and "\n" not in line for line in find_copyrights(text))


@pytest.mark.parametrize(
    "unit", ["Copyright ", "(c)", "copyright 2031, ", "<b ", "#*" * 50 + "copyright", "© 2031 Ada\n"]
)
def test_time_is_linear(unit):
    def cost(n):
        text = unit * (n // len(unit))
        started = time.process_time()
        find_copyrights(text)
        return time.process_time() - started

    assert cost(800_000) < 12 * max(cost(200_000), 0.02)
