import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_platform.licenses.conclude import Found, conclude
from stack_platform.licenses.detect import detect_license, is_license_file
from stack_platform.licenses.policy import license_type

RESTRICTIONS = [
    '"Commons Clause" License Condition v1.0',
    "For non-commercial use only.",
    "Commercial usage requires a paid license.",
    "The Software may not be used for military purposes.",
    "Use of the Software for training machine learning models is prohibited.",
    "Companies with more than ten employees must buy a license.",
    "This license is for evaluation only.",
    "For academic research only.",
    "Not for use in production.",
    "The Software shall be used for Good, not Evil.",
    "This software is proprietary and confidential.",
    "Redistribution of modified copies is forbidden.",
    "You may use the Software, but not sublicense it.",
    "Except for members of the Example group, who get no license.",
    "Only approved partners may use this code.",
    "Users must send a postcard before use.",
]
PIECES = st.sampled_from(
    b"# SPDX-License-Identifier: |MIT|\n| under the terms of |GPL| version 2 |permission is hereby |granted|<p>|*/"
    b"|license|\xff\xfe|\x00|redistribution and use in source |https://spdx.org/licenses/|alternatively".split(
        b"|"
    )
)


@given(st.binary(max_size=400), st.sampled_from(["LICENSE", "a.py", "", "x.txt"]))
def test_any_bytes_give_a_finding(content, name):
    finding = detect_license(content, name)
    assert len(finding.spans) == len(finding.evidence)
    assert license_type(finding.expression) != "permissive" or finding.evidence


@settings(deadline=None)
@given(st.lists(PIECES, max_size=60).map(b"".join), st.sampled_from(["COPYING", "a.c", "README.md"]))
def test_any_mixture_of_license_words_gives_a_finding(content, name):
    finding = detect_license(content, name)
    assert detect_license(content, name) == finding
    assert all(0 <= start <= end for start, end in finding.spans)
    assert all(len(evidence.text) <= 200 for evidence in finding.evidence)


def test_spans_are_the_bytes_of_the_statement(texts):
    content = b"#!/bin/sh\n# \xc3\xa9t\xc3\xa9\n# SPDX-License-Identifier: ISC\n"
    finding = detect_license(content, "run.sh")
    (start, end) = finding.spans[0]
    assert content[start:end] == b"SPDX-License-Identifier: ISC"
    text = texts["MIT"].encode()
    (start, end) = detect_license(text, "LICENSE").spans[0]
    assert text[start:end].startswith(b"Permission is hereby granted")
    assert text[start:end].endswith(b"SOFTWARE")


@pytest.mark.parametrize("name", ["MIT", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "BSD-4-Clause"])
@pytest.mark.parametrize("leader", ["", "# ", " * ", "// ", "dnl ", ";; "])
def test_texts_are_found_in_any_comment_style(texts, name, leader):
    body = "\n".join(leader + line for line in texts[name].splitlines())
    assert detect_license(body.encode(), "x.txt").expression == name
    assert detect_license((body + "\n\nint main(void) { return 0; }\n").encode(), "x.c").expression == name


@pytest.mark.parametrize("restriction", RESTRICTIONS)
@pytest.mark.parametrize("place", ["before", "after", "inside", "header", "tag", "sentence"])
def test_a_permissive_text_with_a_restriction_is_never_permissive(texts, restriction, place):
    text = texts["MIT"]
    name = "LICENSE"
    if place == "before":
        text = restriction + "\n\n" + text
    elif place == "after":
        text += "\n" + restriction + "\n"
    elif place == "inside":
        text = text.replace("following conditions:\n", f"following conditions:\n\n{restriction}\n")
    else:
        first = {
            "tag": "SPDX-License-Identifier: MIT\n",
            "sentence": "Licensed under the MIT license.\n",
        }.get(place, text)
        text = "".join(f"# {line}\n" for line in (first + restriction).splitlines()) + "\nimport os\n"
        name = "x.py"
    assert license_type(detect_license(text.encode(), name).expression) in ("non_permissive", "unknown")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("free of charge", "for a fee"),
        ("without restriction", "with restrictions"),
        (", sublicense,", ","),
        ("any person", "any student"),
        ("substantial portions of the Software.", "substantial portions of the Software, and on its screen."),
    ],
)
def test_a_text_with_other_words_is_not_its_sibling(texts, old, new):
    assert old in texts["MIT"]
    assert detect_license(texts["MIT"].replace(old, new).encode(), "LICENSE").expression == "UNKNOWN"


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        ("def add(a, b):\n    return a + b\n", "x.py", "NONE"),
        ("# Copyright (c) 2031 Ada Example. All rights reserved.\nx = 1\n", "x.py", "NONE"),
        ("license = get_license(key)\nprint('license', license)\n", "x.py", "NONE"),
        ("# See the LICENSE file for details.\n", "x.py", "NONE"),
        (
            "# Use of this source code is governed by a BSD-style license that can be\n# found in the LICENSE file.\n",
            "x.go",
            "NONE",
        ),
        ("# Permission is granted to read this on Tuesdays.\n", "x.py", "UNKNOWN"),
        ("Alle Rechte vorbehalten.\n", "LICENSE", "UNKNOWN"),
        ("You get what you get.\n", "COPYING", "UNKNOWN"),
        ("", "LICENSE", "NONE"),
        (
            "# Unauthorized copying of this file, via any medium, is strictly prohibited.\n",
            "x.py",
            "LicenseRef-proprietary",
        ),
        (
            "# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: GPL-2.0\n",
            "x.c",
            "GPL-2.0-only AND MIT",
        ),
        ("/* Dual licensed under the MIT and GPL licenses. */", "x.js", "GPL-1.0-or-later OR MIT"),
        (
            "# Released under the GNU GPL.\n# GNU General Public License version 3\n# licensed under GPLv3\n",
            "x.py",
            "GPL-3.0-only",
        ),
    ],
)
def test_small_cases(content, name, expected):
    assert detect_license(content.encode(), name).expression == expected


def test_bsd_or_gpl_is_a_choice(texts):
    text = texts["BSD-3-Clause"] + (
        "\nAlternatively, this software may be distributed under the terms of the GNU General Public License"
        " version 2 as published by the Free Software Foundation.\n"
    )
    assert detect_license(text.encode(), "x.c").expression == "BSD-3-Clause OR GPL-2.0-only"


def test_a_list_of_licenses_is_no_statement():
    names = ["MIT license", "Apache License 2.0", "Zlib license", "ISC license", "MPL 2.0", "GPLv2"]
    text = "\n".join(f"# this one is licensed under the {name}" for name in names)
    assert detect_license(text.encode(), "x.py").expression == "UNKNOWN"


def test_utf16_license_files_are_read(texts):
    assert detect_license(texts["MIT"].encode("utf-16"), "LICENSE").expression == "MIT"


def test_hundreds_of_tags_do_not_raise():
    content = "\n".join(f"# SPDX-License-Identifier: LicenseRef-{i:04}" for i in range(800))
    assert detect_license(content.encode(), "x.py").expression == "UNKNOWN"


@pytest.mark.parametrize(
    "name",
    ["LICENSE", "COPYING.LESSER", "LICENSE-MIT", "license.md", "UNLICENSE", "mit-license.txt", "LICENCE"],
)
def test_license_files_are_known_by_name(name):
    assert is_license_file(f"some/where/{name}")


@pytest.mark.parametrize(
    "name",
    [
        "license.py",
        "licenses.json",
        "LICENSE.tpl",
        "NOTICE",
        "copyright_check.go",
        "README.md",
        "license-checker.js",
    ],
)
def test_code_about_licenses_is_no_license_file(name):
    assert not is_license_file(name)


@pytest.mark.parametrize("name", ["LICENSE", "x.py", "README.md"])
@pytest.mark.parametrize(
    "phrase",
    [
        b"license ",
        b"permission is hereby granted free of charge to any person ",
        b"the software is provided as is without warranty of any kind ",
        b"SPDX-License-Identifier: MIT\n",
        b"GPL-2.0 MIT Apache-2.0 BSD-3-Clause license\n",
    ],
)
def test_repeated_words_take_linear_time(name, phrase, cpu_seconds):
    def seconds(size):
        content = (phrase * (size // len(phrase) + 1))[:size]
        return cpu_seconds(lambda: detect_license(content, name))

    seconds(1_000)  # the index is loaded once
    assert seconds(400_000) < 6 * seconds(100_000) + 0.5


def test_a_text_is_found_beside_many_others(texts):
    body = "\n\n".join(texts[name] for name in ("BSD-3-Clause", "MIT", "BSD-2-Clause"))
    assert detect_license(body.encode(), "LICENSE").expression == "BSD-2-Clause AND BSD-3-Clause AND MIT"


def test_headers_of_the_spdx_list_are_found_in_comments():
    content = b"REM Licensed under the Academic Free License version 2.1\nREM\nREM done\n"
    assert detect_license(content, "a.bat").expression == "AFL-2.1"


def test_a_tag_that_belongs_to_a_text_is_no_statement_of_its_own(texts):
    """Some texts end with the tag under which the text itself, not the software, may be copied."""
    found = Found("MIT", "text", "text", 0, 100)
    tag = Found("CC-BY-4.0", "tag", "tag", 80, 100)
    assert conclude([tag], [found], b"x" * 100, whole=False).expression == "MIT"
    assert conclude([tag._replace(end=120)], [found], b"x" * 120, whole=False).expression == "CC-BY-4.0"


def test_a_trade_secret_of_others_is_history_and_one_of_the_file_a_restriction(texts):
    header = "".join(f" * {line}\n" for line in texts["MIT"].splitlines())
    history = (
        "/*\n"
        + header
        + " */\n/* A cipher whose actual description is a trade secret of others. */\nint x;\n"
    )
    assert detect_license(history.encode(), "a.c").expression == "MIT"
    reserved = history.replace("A cipher whose actual description is a", "This software is a")
    assert license_type(detect_license(reserved.encode(), "a.c").expression) != "permissive"
