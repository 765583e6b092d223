import pytest

from stack_platform.licenses.conclude import Found, conclude
from stack_platform.licenses.detect import detect_license

GPL = (
    "This program is free software; you can redistribute it and/or modify it under the terms of the GNU General"
    " Public License as published by the Free Software Foundation; either version 2 of the License, or (at your"
    " option) any later version.\n"
)
LIBTOOL = (
    "As a special exception to the GNU General Public License, if you distribute this file as part of a program"
    " or library that is built using GNU Libtool, you may include this file under the same distribution terms"
    " that you use for the rest of that program.\n"
)


def said(*rows, tags=(), whole=False):
    found = [Found(e, "r", tier, i * 10, i * 10 + 5) for i, (tier, e) in enumerate(rows)]
    return conclude(list(tags), found, b" " * 200, whole=whole).expression


def test_an_exception_joins_its_license():
    assert said(("notice", "GPL-2.0-or-later"), ("exception", "Libtool-exception")) == (
        "GPL-2.0-or-later WITH Libtool-exception"
    )
    content = ("/* " + GPL + "\n" + LIBTOOL + "*/\n").encode()
    assert detect_license(content, "x.c").expression == "GPL-2.0-or-later WITH Libtool-exception"


def test_an_exception_without_a_license_is_unknown():
    assert said(("exception", "Libtool-exception")) == "UNKNOWN"
    assert said(("text", "MIT"), ("exception", "Libtool-exception")) == "LicenseRef-unknown-terms AND MIT"


def test_the_copy_of_a_license_beside_its_exception_is_no_second_license():
    assert (
        said(("text", "GPL-2.0-only"), ("notice", "GPL-2.0-only"), ("exception", "Classpath-exception-2.0"))
        == "GPL-2.0-only WITH Classpath-exception-2.0"
    )


def test_the_notice_tells_the_version_of_a_text_with_an_exception():
    assert said(("notice", "GPL-3.0-or-later"), ("text", "GPL-2.0-only WITH Classpath-exception-2.0")) == (
        "GPL-3.0-or-later WITH Classpath-exception-2.0"
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((("reference", "GPL-1.0-or-later"), ("notice", "GPL-2.0-only")), "GPL-2.0-only"),
        (
            (("notice", "MPL-2.0"), ("notice", "MPL-2.0-no-copyleft-exception")),
            "MPL-2.0-no-copyleft-exception",
        ),
        (
            (("text", "MIT"), ("restriction", "LicenseRef-additional-terms")),
            "LicenseRef-additional-terms AND MIT",
        ),
        ((("text", "MIT"), ("grant", "UNKNOWN")), "LicenseRef-unknown-terms AND MIT"),
        (
            (("scancode", "MIT"), ("restriction", "LicenseRef-additional-terms")),
            "LicenseRef-additional-terms AND MIT",
        ),
        ((("grant", "UNKNOWN"),), "UNKNOWN"),
        ((), "NONE"),
    ],
)
def test_statements_add_up(rows, expected):
    assert said(*rows) == expected
