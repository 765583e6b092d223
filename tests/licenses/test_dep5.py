import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.licenses.dep5 import dep5_expression, read_dep5

FILE = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: example

# a comment
Files: *
Copyright: 2031 Ada
 2032 Bob
License: GPL-2+ or Expat

Files: debian/* ./src/a?.c
Copyright: 2033 Cleo
License: Zlib
 The whole text
 .
 stands here.

License: GPL-2+
 On Debian systems ...
"""


def test_paragraphs_of_files_become_annotations():
    first, second = read_dep5(FILE.encode())
    assert first.patterns == ("**",)
    assert first.expression == "GPL-2.0-or-later OR MIT"
    assert first.copyrights == ("2031 Ada", "2032 Bob")
    assert second.patterns == ("debian/**", "src/a?.c")
    assert second.expression == "Zlib"


def test_free_text_is_no_machine_readable_file():
    assert read_dep5(b"This package was debianized by somebody.\n\nIt is licensed under the GPL.") is None
    assert read_dep5(b"") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Expat", "MIT"),
        ("GPL-2", "GPL-2.0-only"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GPL-2+ or Expat, and BSD-3-clause", "BSD-3-Clause AND (GPL-2.0-or-later OR MIT)"),
        ("GPL-2 and (Expat or Zlib)", "GPL-2.0-only AND (MIT OR Zlib)"),
        ("Apache-2.0 with LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        ("GPL-3+ with Autoconf exception", "GPL-3.0-or-later WITH Autoconf-exception-generic"),
        ("BSD-3-clause, Expat", "BSD-3-Clause AND MIT"),
        ("public-domain", "LicenseRef-public-domain"),
        ("custom", "LicenseRef-custom"),
        ("Artistic or GPL-1+", "Artistic-1.0-Perl OR GPL-1.0-or-later"),
        ("(((", "UNKNOWN"),
        ("", "UNKNOWN"),
    ],
)
def test_debian_names_become_spdx(text, expected):
    assert dep5_expression(text) == expected


@given(st.text(alphabet="ab,() \n:orandwith+-Files*", max_size=120))
def test_any_text_is_survived(text):
    dep5_expression(text)
    read_dep5(("Format: x\n\nFiles: *\nLicense: " + text).encode())
