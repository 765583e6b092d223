from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stack_platform.scrub.spans import TYPES, Span, merge_spans

spans = st.builds(
    lambda start, size, kind, score: Span(start, start + size, kind, "r", score),
    st.integers(0, 60),
    st.integers(1, 20),
    st.sampled_from(TYPES),
    st.floats(0, 1),
)


@given(st.lists(spans))
def test_merged_spans_are_sorted_disjoint_and_cover_the_same_places(found):
    merged = merge_spans(found)
    assert all(a.end <= b.start for a, b in pairwise(merged))
    assert {p for s in merged for p in range(s.start, s.end)} == {
        p for s in found for p in range(s.start, s.end)
    }


@given(st.lists(spans), st.randoms())
def test_the_order_of_spans_does_not_matter(found, random):
    shuffled = random.sample(found, len(found))
    assert merge_spans(shuffled) == merge_spans(found)


def test_the_most_specific_large_member_names_the_union():
    assignment = Span(0, 20, "PASSWORD", "sp.assignment", 0.6)
    vendor = Span(2, 20, "KEY", "vendor", 0.9)
    stray = Span(18, 22, "EMAIL", "sp.email", 0.5)
    assert merge_spans([assignment, vendor, stray]) == [Span(0, 22, "KEY", "vendor", 0.9)]


def test_touching_spans_stay_apart():
    assert len(merge_spans([Span(0, 3, "KEY", "a", 1.0), Span(3, 5, "KEY", "a", 1.0)])) == 2
