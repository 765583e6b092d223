import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.errors import PolicyError
from stack_platform.licenses import spdx

SYMBOLS = [
    "MIT",
    "Apache-2.0",
    "GPL-2.0-or-later",
    "LicenseRef-Own",
    "Zlib",
    "GPL-2.0-only WITH Classpath-exception-2.0",
]
EXPRESSIONS = st.recursive(
    st.sampled_from(SYMBOLS),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("mit", "MIT"),
        ("GPL-2.0", "GPL-2.0-only"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        ("LGPL-2.1 or apache-2.0", "Apache-2.0 OR LGPL-2.1-only"),
        ("GPL-2.0-with-classpath-exception", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("eCos-2.0", "GPL-2.0-or-later WITH eCos-exception-2.0"),
        ("(MIT AND (MIT))", "MIT"),
        ("LicenseRef-KDE-Accepted-GPL", "LicenseRef-KDE-Accepted-GPL"),
        ("none", "NONE"),
        ("NOASSERTION", "UNKNOWN"),
    ],
)
def test_expressions_have_one_canonical_text(written, canonical):
    assert spdx.normalize(written) == canonical


@pytest.mark.parametrize(
    "text", ["", "   ", "MIT AND", "(((", "()", "MIT/Apache-2.0", "a" * 5000, "(" * 1500, "MIT OR (", "{{x}}"]
)
def test_what_is_no_expression_is_refused_with_advice(text):
    with pytest.raises(PolicyError, match="write an SPDX expression"):
        spdx.normalize(text)


@given(EXPRESSIONS)
def test_normalizing_twice_changes_nothing(expression):
    once = spdx.normalize(expression)
    assert spdx.normalize(once) == once
    assert set(spdx.symbols(once)) <= {part for symbol in SYMBOLS for part in symbol.split(" WITH ")}


def test_symbols_list_licenses_and_exceptions():
    assert spdx.symbols("GPL-2.0 WITH Classpath-exception-2.0 OR MIT") == (
        "Classpath-exception-2.0",
        "GPL-2.0-only",
        "MIT",
    )
    assert spdx.symbols("NONE") == ()


def test_only_spdx_symbols_and_license_refs_are_known():
    assert spdx.is_known("MIT OR LicenseRef-x")
    assert spdx.is_known("Apache-2.0+")
    assert not spdx.is_known("MIT OR Prosperity")
    assert not spdx.is_known("NONE")
    assert not spdx.is_known("see license file")


def test_combining_keeps_what_is_known_beside_what_is_not():
    assert spdx.combine(["MIT", "NONE", "Zlib OR MIT"]) == "MIT"
    assert spdx.combine(["MIT", "UNKNOWN"]) == "LicenseRef-unknown-terms AND MIT"
    assert spdx.combine(["MIT", "Zlib"], "OR") == "MIT OR Zlib"
    assert spdx.combine(["UNKNOWN", "UNKNOWN"]) == "UNKNOWN"
    assert spdx.combine([]) == "NONE"


WORDS = st.sampled_from(
    "MIT GPL-2.0+ GPL-2.0 and OR with WITH not AND ( ) Classpath-exception-2.0 eCos-2.0 LicenseRef-x + : . \x00 true 0"
    " NONE UNKNOWN".split(" ")
)
HOSTILE = st.one_of(
    st.text(max_size=80), st.lists(WORDS, max_size=14).map(" ".join), st.lists(WORDS).map("".join)
)


@given(HOSTILE)
def test_any_text_is_normalized_or_refused(text):
    try:
        once = spdx.normalize(text)
    except PolicyError:
        assert not spdx.is_known(text)
        return
    assert spdx.normalize(once) == once
    spdx.symbols(text)


@given(st.lists(HOSTILE, max_size=4), st.sampled_from(["AND", "OR"]))
def test_any_texts_are_combined_or_refused(texts, operator):
    try:
        whole = spdx.combine(texts, operator)
    except PolicyError:
        return
    assert spdx.normalize(whole) == whole
