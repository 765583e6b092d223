"""The pages about what left the lake as a duplicate."""

import pytest

from stack_platform.corpus.duplicate_report import duplicate_pair, duplicate_report
from stack_platform.errors import SourceError, TableError
from stack_platform.tables import Lake


def test_the_report_counts_what_the_stage_dropped_and_shows_a_pair(corpus: Lake) -> None:
    page = duplicate_report(corpus)
    dropped = corpus.open("deduplicated", "Python").manifest.counts["dropped"]
    for reason in ("exact_duplicate", "near_duplicate"):
        assert f"<td>{reason}</td><td class=n>{dropped[reason]:,}</td>" in page
    assert "alpha/near_a.py" in page
    assert 'class="changed"' in page
    assert duplicate_report(corpus) == page


def test_a_pair_is_shown_by_the_file_that_left(corpus: Lake) -> None:
    page = duplicate_pair(corpus, "Python", "pkg:pypi/alpha", "alpha/near_b.py")
    assert "pkg:pypi/alpha/alpha/near_b.py left for pkg:pypi/alpha/alpha/near_a.py (Jaccard 0." in page
    assert "<tr><td>def " in page


def test_a_file_that_is_no_duplicate_and_a_language_that_is_not_there_are_refused(corpus: Lake) -> None:
    with pytest.raises(SourceError, match=r"alpha/kept.py did not leave Python as a duplicate"):
        duplicate_pair(corpus, "Python", "pkg:pypi/alpha", "alpha/kept.py")
    with pytest.raises(TableError, match="deduplicated/COBOL is not in"):
        duplicate_report(corpus, ["COBOL"])
