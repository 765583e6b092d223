import re

import pytest

from stack_platform.languages import catalog, heuristics

SIZE = heuristics.CONSIDERED_BYTES
RUNS = [
    unit * (16 * 1024 // len(unit))
    for unit in (
        b" ",
        b"\t",
        b"a",
        b"A",
        b"1",
        b".",
        b"-",
        b"(",
        b"[",
        b"<",
        b"\n",
        b" \n",
        b"a ",
        b"a,",
        b"a.",
        b"a:",
        b"::",
        b"{ ",
    )
]


def test_every_rule_compiles_and_names_a_language():
    names = catalog.catalog().languages
    for extension in heuristics.extensions():
        assert heuristics.rules(extension)
        assert {rule.language for rule in heuristics.rules(extension)} <= set(names)


def test_every_shared_extension_has_a_rule_for_each_of_its_languages():
    for extension, languages in catalog.catalog().by_extension.items():
        if len(languages) > 1:
            assert set(languages) <= {rule.language for rule in heuristics.rules(extension)}, extension


def test_only_the_last_rule_holds_without_a_pattern():
    for extension in heuristics.extensions():
        for rule in heuristics.rules(extension)[:-1]:
            assert rule.at_start or rule.at_line or rule.anywhere, (extension, rule.language)


@pytest.mark.parametrize("content", RUNS, ids=lambda content: repr(content[:3]))
def test_every_rule_stays_fast_on_runs_that_make_patterns_slow(content, cpu_seconds):
    """A linear rule reads 16 KiB in under 5 ms; a quadratic one takes most of a second."""
    for extension in heuristics.extensions():
        for rule in heuristics.rules(extension):
            taken = cpu_seconds(lambda rule=rule: rule.holds(b"\n" + content), enough=0.1)
            assert taken < 0.1, (extension, rule.language)


def test_only_the_first_50_kib_count():
    marker = b"\n@interface Foo\n"
    assert heuristics.by_rules("a.h", b" " * 100 + marker, ("C", "Objective-C")) == "Objective-C"
    assert heuristics.by_rules("a.h", b" " * SIZE + marker, ("C", "Objective-C")) == "C"


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_of_any_system_are_line_ends(line_end):
    content = line_end.join([b"int x;", b"class Point {", b"};", b""])
    assert heuristics.by_rules("a.h", content, ()) == "C++"


def test_rules_stay_among_the_candidates():
    assert heuristics.by_rules("a.h", b"@interface Foo\n", ("C", "C++")) == "C"
    assert heuristics.by_rules("a.unknown", b"anything", ()) is None


def test_anchors_are_filed_and_dropped():
    rule = heuristics._rule("X", [r"\Aone", r"(?i:^\htwo)", r"[\hx]three"])
    assert (rule.at_start, rule.at_line, rule.anywhere) != (None, None, None)
    assert isinstance(rule.at_line, re.Pattern)
    assert rule.holds(b"\none")
    assert not rule.holds(b"\n one")
    assert rule.holds(b"\na\n TWO")
    assert not rule.holds(b"\na  two")
    assert rule.holds(b"\na\tthree")
