import pytest

from stack_platform.licenses.references import match_references, read_gnu_name
from stack_platform.licenses.tokens import Tokens, as_phrase


def read(text):
    return [match.expression for match in match_references(Tokens(text.lower().encode()))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("under the terms of the GNU GPL; either version 2, or (at your option) any later version", "GPL-2.0-or-later"),
        ("under the terms of the GNU General Public License version 2 as published by the FSF", "GPL-2.0-only"),
        ("under the terms of version 2.1 of the GNU Lesser General Public License", "LGPL-2.1-only"),
        ("licensed under the GNU Affero General Public License v3.0 or later", "AGPL-3.0-or-later"),
        ("licensed under GPLv3+", "GPL-3.0-or-later"),
        ("This file is GPLv2 as found in COPYING", "GPL-2.0-only"),
        ("distributed under the GPL", "GPL-1.0-or-later"),
        ("Released under the MIT License.", "MIT"),
        ("licensed under the terms of the Apache License, Version 2.0", "Apache-2.0"),
        ("This code is distributed under the 3-clause BSD license", "BSD-3-Clause"),
        ("dual licensed under the MIT license and the Apache License 2.0", "Apache-2.0 OR MIT"),
        ("licensed under MIT or Apache 2.0", "Apache-2.0 OR MIT"),
        ("licensed under the Creative Commons Attribution-NonCommercial 4.0 International License", "CC-BY-NC-4.0"),
    ],
)  # fmt: skip
def test_sentences_name_a_license(text, expected):
    assert read(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "The MIT license is short.",
        "See the GNU General Public License for more details.",
        "You should have received a copy of the GNU General Public License",
        "this is compatible with the GPL",
        "students at MIT under pressure",
        "def license(mit): return gpl",
    ],
)
def test_a_name_alone_is_no_statement(text):
    assert read(text) == []


def test_gnu_names_of_metadata_are_read():
    assert read_gnu_name(as_phrase("GNU LGPL v2.1 or later")) == "LGPL-2.1-or-later"
    assert read_gnu_name(as_phrase("GPL (>= 2)")) == "GPL-2.0-only"
    assert read_gnu_name(as_phrase("MIT")) is None
