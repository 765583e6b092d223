from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.licenses import near
from stack_platform.licenses.fingerprints import Side, index
from stack_platform.licenses.near import find_near, match_fingerprints
from stack_platform.licenses.tokens import Tokens


def named(text):
    return [match.expression for match, _ in match_fingerprints(Tokens(text.lower().encode()))]


def test_texts_are_found_word_by_word(texts):
    for name in ("MIT", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause"):
        assert named(texts[name]) == [name]


def test_another_holder_is_the_same_license(texts):
    text = texts["BSD-3-Clause"].replace("the copyright holder nor", "Example Widgets Inc nor")
    text = text.replace("BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS", "BY EXAMPLE WIDGETS INC")
    text = text.replace("THE COPYRIGHT HOLDER OR CONTRIBUTORS BE", "EXAMPLE WIDGETS INC BE")
    assert named(text) == ["BSD-3-Clause"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("free of charge", "for a charge"),
        ("without restriction", "with many restrictions"),
        (", sublicense,", ","),
        ("The above copyright notice", "Non-commercial use only. The above copyright notice"),
        ("any person", "any academic person"),
    ],
)
def test_a_permissive_text_with_other_rights_is_not_found(texts, old, new):
    assert old in texts["MIT"]
    assert named(texts["MIT"].replace(old, new)) == []


def test_copyright_lines_between_title_and_text_are_no_difference(texts):
    text = texts["MIT"].replace(
        "Copyright (c) 2031 Ada Example", "Copyright (c) 2031 Ada Example, Oslo\nCopyright 2032 others"
    )
    assert named(text) == ["MIT"]


def test_two_texts_are_two_matches_in_order(texts):
    assert named(texts["MIT"] + texts["BSD-2-Clause"]) == ["MIT", "BSD-2-Clause"]


def number(words):
    text = f" {' '.join(words)} " if words else " "
    return index().number(text, np.array([at for at, c in enumerate(text) if c == " "]))


def test_matches_explain_only_what_they_matched(texts):
    tokens = Tokens(texts["MIT"].lower().encode())
    ((match, pieces),) = match_fingerprints(tokens)
    assert tokens.text[match.start : match.end].startswith((" mit license", " permission is hereby"))
    assert all(match.start <= start < end <= match.end for start, end in pieces)


def test_nearly_every_rule_finds_itself_or_a_rule_that_explains_as_much():
    """A few stay crowded out by more than 48 longer relatives (GNU notices); later tiers read those."""
    known = index()
    lost = []
    sample = range(0, len(known.lengths), 25)
    for i in sample:
        words = known.rule(i).forward.words
        if sum(f.end - f.start for f in find_near(words)) < 0.9 * len(words):
            lost.append(i)
    assert len(lost) <= 0.01 * len(sample), lost


@given(
    st.lists(
        st.sampled_from("the software license is provided as permission granted x".split()), max_size=200
    )
)
def test_any_words_give_disjoint_matches(words):
    document = number(words)
    found = find_near(document)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(0 <= f.start < f.end <= len(words) for f in found)
    assert find_near(document) == found


def test_unknown_words_have_no_number():
    assert number(["zyxwv-not-a-word", "license"]).tolist() == [0, index().number_of("license")]
    assert index().number_of("license") > 0
    assert number([]).dtype == np.uint16


def test_a_name_may_differ_and_a_condition_may_not(texts):
    notice = "This file is free software; {} gives unlimited permission to copy and/or distribute it, with or"
    notice += " without modifications, as long as this notice is preserved."
    assert named(notice.format("the Free Software Foundation")) == ["FSFULLR"]
    assert named(notice.format("as a special exception the author")) == []
    assert named(notice.format("the author, except to employees,")) == []


def test_a_text_is_found_where_most_of_its_words_say(texts):
    """The name of the holder stands twice, in the copyright line and at the beginning of the text."""
    name = "third eye software inc"
    text = f"(c) copyright 1984 by {name} {name} grants reproduction and use rights to all parties provided that this"
    text += " comment is maintained in the copy third eye makes no claims about the applicability of this symbol table"
    assert named(text + " to a particular use") == ["ThirdEye"]


def plain_equal(document, d, rule, r):
    here, there = (np.frombuffer(data, np.uint16).tolist() for data in (document, rule))
    run = 0
    while d + run < len(here) and r + run < len(there) and here[d + run] == there[r + run]:
        run += 1
    return run


def plain_resync(text, d, side, r):
    """Try all pairs of places in reach: the fewest words left out win, then the fewest of the document."""
    here, there = text.words.tolist(), side.words.tolist()
    reach, gap, _, _ = near._window(side, r)
    if not near.word_sets().copyright.isdisjoint(here[d : d + near._REACH]):
        gap = max(gap, near._COPYRIGHT_LINE)
    pairs = []
    for i in range(min(max(reach, gap + 2), len(here) - d)):
        for j in range(min(len(there) - r, reach + 1)):
            ahead = there[r + j : r + j + near._RESYNC]
            if here[d + i : d + i + len(ahead)] == ahead and i + j < reach + gap + near._REACH:
                pairs.append((i + j, i, j))
    return min(pairs)[1:] if pairs else None


def plain_align(number, place, spot, texts, *, exact=False, align=near._align):
    found = align(number, place, spot, texts)
    return found if found is None or found.exact or not exact else None


def every_candidate(*arguments, candidates=near._candidates):
    return candidates(*arguments[:-1], [])


def edited(known, draw, number):
    """Return the words of a rule with some left out, put in or taken from another rule, or cut off."""
    words = known.rule(number).forward.words.tolist()[:400]
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        at, many = draw.randrange(len(words)), draw.choice((1, 1, 2, 5))
        other = known.rule((number + draw.choice((0, 1, 7, 900))) % len(known.lengths)).forward.words
        words[at : at + draw.choice((0, 1, many))] = other[at : at + many].tolist()
        words = words[: draw.choice((len(words), len(words), len(words) - 2, len(words) // 2))] or [1]
    return words


@pytest.mark.parametrize("seed", range(4))
def test_shortcuts_change_no_answer(seed):
    """Edited rules, one, two and a variant side by side; aligned with and without the shortcuts."""
    known, draw = index(), Random(seed)
    lost = 0
    for _ in range(60):
        numbers = [draw.randrange(len(known.lengths)) for _ in range(draw.choice((1, 2)))]
        numbers += [min(numbers[0] + draw.choice((1, 2)), len(known.lengths) - 1)]
        document = np.array([w for i in numbers for w in edited(known, draw, i)], np.uint16)
        found = find_near(document)
        with pytest.MonkeyPatch.context() as patch:
            for name, plain in (
                ("_equal", plain_equal),
                ("_resync", plain_resync),
                ("_align", plain_align),
                ("_candidates", every_candidate),
            ):
                patch.setattr(near, name, plain)
            assert find_near(document) == found
        lost += not found
    assert lost < 30


@given(st.lists(st.integers(0, 3), max_size=300), st.lists(st.integers(1, 3), max_size=300), st.data())
def test_equal_words_are_counted_to_the_first_that_differs(document, rule, data):
    copied = data.draw(st.integers(0, len(rule)))
    here = np.array(rule[:copied] + document, np.uint16).tobytes()
    there = np.array(rule, np.uint16).tobytes()
    d, r = data.draw(st.integers(0, len(here) // 2)), data.draw(st.integers(0, len(rule)))
    for start in (0, d):
        assert near._equal(here, start, there, r) == plain_equal(here, start, there, r)
    assert near._equal(here, 0, there, 0) >= copied


@given(
    st.lists(st.integers(1, 2), min_size=1, max_size=40),
    st.lists(st.integers(1, 2), min_size=1, max_size=30),
    st.dictionaries(st.integers(0, 30), st.integers(1, 20), max_size=2),
    st.sets(st.integers(0, 29), max_size=4),
    st.data(),
)
def test_texts_agree_again_at_the_nearest_places(document, rule, gaps, optional, data):
    text = near._text(np.array(document, np.uint16))
    optional = frozenset(k for k in optional if k < len(rule))
    side = Side(np.array(rule, np.uint16).tobytes(), gaps, optional)
    d, r = data.draw(st.integers(0, len(document))), data.draw(st.integers(0, len(rule) - 1))
    assert near._resync(text, d, side, r) == plain_resync(text, d, side, r)
