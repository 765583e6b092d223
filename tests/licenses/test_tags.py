import pytest

from stack_platform.licenses.tags import find_labels, find_tags, find_urls, name_to_expression


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("# SPDX-License-Identifier: MIT", "MIT"),
        ("/* SPDX-License-Identifier: GPL-2.0+ */", "GPL-2.0-or-later"),
        ("<!-- SPDX-License-Identifier: (MIT OR Apache-2.0) -->", "Apache-2.0 OR MIT"),
        (" * SPDX-License-Identifier:  LicenseRef-Own  ", "LicenseRef-Own"),
        ('"""SPDX-License-Identifier: ISC"""', "ISC"),
        ("dnl SPDX-License-Identifier: Zlib", "Zlib"),
        ("# SPDX-License-Identifier: MIT License", "MIT"),
        ("# SPDX-License-Identifier: All-Mine-1.0", "UNKNOWN"),
    ],
)
def test_tags_are_read_in_any_comment(line, expected):
    assert [tag.expression for tag in find_tags(f"first\n{line}\nlast".encode())] == [expected]


@pytest.mark.parametrize(
    "line",
    [
        'TAG = "SPDX-License-Identifier: MIT"',
        "re.compile(r'SPDX-License-Identifier: (.*)')",
        "# SPDX-License-Identifier: {{ expression }}",
        "# SPDX-License-Identifier: <id>",
        "# SPDX-License-Identifier: ${license}",
        "# write `SPDX-License-Identifier: MIT` into each file",
        "# SPDX-License-Identifier:",
        "if line.startswith('SPDX-License-Identifier: GPL-2.0')",
    ],
)
def test_code_and_templates_that_mention_the_tag_are_no_statement(line):
    assert find_tags(line.encode()) == []


def test_all_tags_count_and_ignored_blocks_do_not():
    tag = b"# SPDX-License-Identifier: "
    ignored = b"# REUSE-IgnoreStart\n" + tag + b"Zlib\n# REUSE-IgnoreEnd\n"
    content = tag + b"MIT\n" + ignored + tag + b"ISC\n"
    assert [tag.expression for tag in find_tags(content)] == ["MIT", "ISC"]


def test_an_empty_expression_is_an_unknown_license():
    assert [tag.expression for tag in find_tags(b"# SPDX-License-Identifier: ()")] == ["UNKNOWN"]


def test_one_line_holds_one_tag():
    assert find_tags(b"# SPDX-License-Identifier: MIT" + b" SPDX-License-Identifier: ISC" * 400) == []
    assert len(find_tags(b"# SPDX-License-Identifier: MIT\r# SPDX-License-Identifier: ISC")) == 2


def test_a_line_of_stars_is_read_quickly():
    assert find_tags(b"# SPDX-License-Identifier: " + b"*" * 500 + b" x") == []


def test_labels_and_tags_stand_at_the_head_of_a_line():
    far = b"x" * 400
    assert find_labels(far + b" @license MIT\n" + b"# license: ISC")[0].expression == "ISC"
    assert find_tags(far + b" SPDX-License-Identifier: MIT") == []


def test_labels_must_be_exactly_a_name():
    content = b" * @license MIT\n# License: BSD-3-Clause\n__license__ = 'Apache 2.0'\n# License: see below\n"
    assert [label.expression for label in find_labels(content)] == ["MIT", "BSD-3-Clause", "Apache-2.0"]


def test_addresses_count_after_the_word_license_or_alone():
    assert [t.expression for t in find_urls(b"https://opensource.org/licenses/mit-license.php")] == ["MIT"]
    assert [t.expression for t in find_urls(b"http://creativecommons.org/licenses/by-nc/4.0/")] == [
        "CC-BY-NC-4.0"
    ]
    long = b"see https://opensource.org/licenses/MIT for prose\n" + b"x = 1\n" * 100
    assert find_urls(long) == []
    assert find_urls(b"http://www.gnu.org/licenses/gpl-9.9")[0].expression == "GPL-3.0-only"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("MIT License", "MIT"),
        ("The MIT License", "MIT"),
        ("Apache 2.0", "Apache-2.0"),
        ("BSD", "LicenseRef-BSD"),
        ("new BSD", "BSD-3-Clause"),
        ("GPLv3+", "GPL-3.0-or-later"),
        ("GNU LGPL", "LGPL-2.0-or-later"),
        ("MIT/Apache-2.0", "Apache-2.0 OR MIT"),
        ("MIT, BSD-3-Clause", "BSD-3-Clause AND MIT"),
        ("Proprietary", "LicenseRef-proprietary"),
        ("MIT with my changes", None),
        ("LICENSE.txt", None),
        ("", None),
    ],
)
def test_license_fields_as_people_write_them(written, expected):
    assert name_to_expression(written) == expected
