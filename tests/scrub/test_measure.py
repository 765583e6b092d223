import pytest

from stack_platform.scrub.measure import SECRETS, tally
from stack_platform.scrub.spans import Span


def case(text="a" * 20, spans=(), negatives=(), *, hard=False):
    return {
        "text": text,
        "path": None,
        "spans": [dict(zip(("type", "start", "end"), span, strict=True)) for span in spans],
        "negatives": [dict(zip(("start", "end"), span, strict=True)) for span in negatives],
        "hard_negative": hard,
    }


def counted(cases, *hits):
    return tally(cases, lambda text, path: [Span(*hit, "KEY", "r", 1.0) for hit in hits])


def test_a_span_is_found_by_any_overlap_and_covered_by_nine_tenths():
    counts = counted([case(spans=[("KEY", 0, 10)])], (8, 20))
    assert (counts.recall(["KEY"]), counts.coverage(["KEY"])) == (1, 0)
    assert counted([case(spans=[("KEY", 0, 10)])], (0, 5), (6, 10)).coverage(["KEY"]) == 1


def test_hits_elsewhere_are_nobodys_knowledge():
    assert counted([case(spans=[("KEY", 0, 5)])], (0, 5), (9, 12)).precision() == 1


def test_hits_on_what_is_harmless_are_wrong():
    cases = [case(spans=[("KEY", 0, 5)], negatives=[(8, 12)]), case(hard=True)]
    counts = counted(cases, (0, 5), (9, 12))
    assert counts.precision() == pytest.approx(1 / 4)
    assert counts.touched() == 1


def test_recall_is_over_all_types_asked_for():
    counts = counted([case(spans=[("KEY", 0, 5), ("PASSWORD", 10, 12), ("NAME", 14, 16)])], (0, 5))
    assert counts.recall(SECRETS) == 1 / 2


def test_nothing_labeled_is_no_recall():
    assert tally([], lambda text, path: []).precision() == 0
