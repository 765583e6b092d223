from stack_platform.licenses import spdx
from stack_platform.licenses.policy import license_type
from stack_platform.licenses.rules import match_texts, read_segments, rules_in, table
from stack_platform.licenses.tokens import Tokens

NEWER_THAN_LICENSE_DB = {
    "WTFNMFPL"
}  # of the SPDX list, not yet in license-expression: unknown, never permissive


def test_every_expression_of_the_table_is_known():
    rules = [*table().texts, *table().notices]
    expressions = {rule.expression for rule in rules} | set(table().field_names.values())
    assert {e for e in expressions if not spdx.is_known(e)} <= NEWER_THAN_LICENSE_DB
    assert {e for e in expressions if license_type(e) == "unknown"} <= NEWER_THAN_LICENSE_DB


def test_only_licenses_that_are_not_permissive_hide_what_lies_between_their_phrases():
    assert [r.name for r in table().texts if r.whole and license_type(r.expression) == "permissive"] == []


def test_rule_names_are_unique():
    names = [rule.name for rule in (*table().texts, *table().notices)]
    assert len(names) == len(set(names))


def test_rule_language_knows_gaps_choices_and_macros():
    segments = read_segments("one <m> [*] {three|3} four", {"m": "two"})
    assert [segment.spellings for segment in segments] == [(" one two ",), (" three four ", " 3 four ")]
    assert segments[0].gap == 0
    assert segments[1].gap > 1000


def test_each_bsd_is_told_from_its_siblings(texts):
    for name, text in texts.items():
        assert [match.expression for match in match_texts(Tokens(text.lower().encode()))] == [name]


def test_two_texts_in_one_file_are_both_found(texts):
    both = (texts["BSD-2-Clause"] + texts["MIT"] + texts["BSD-3-Clause"]).lower().encode()
    assert sorted(m.expression for m in match_texts(Tokens(both))) == ["BSD-2-Clause", "BSD-3-Clause", "MIT"]


def test_every_row_is_a_candidate_for_its_own_words():
    for rule in (*table().texts, *table().notices):
        words = " ".join(min(segment.spellings, key=len) for segment in rule.segments)
        narrow = rules_in(Tokens(words.encode()))
        assert rule in (*narrow.texts, *narrow.notices)
    for phrase in (*table().pointers, *table().neutral, *table().grants, *table().weak_grants):
        narrow = rules_in(Tokens(phrase.encode()))
        assert phrase in (*narrow.pointers, *narrow.neutral, *narrow.grants, *narrow.weak_grants)
    for restriction in table().restrictions:
        assert restriction in rules_in(Tokens(restriction.phrase.encode())).restrictions
    for name in table().names:
        assert name in rules_in(Tokens(name.encode())).names


def test_a_text_of_code_leaves_few_rows():
    narrow = rules_in(Tokens(b"def add(a, b): return a + b"))
    assert (narrow.texts, narrow.notices, narrow.names, narrow.restrictions) == ((), (), {}, ())
    assert narrow.field_names == table().field_names
