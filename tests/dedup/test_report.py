import pyarrow as pa
import pytest

from stack_platform.dedup.report import REMOVED_FILES, Pair, largest_clusters, pair_page, report_page
from stack_platform.errors import SchemaError


def removed(*rows: tuple) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(REMOVED_FILES.names, row, strict=True)) for row in rows], REMOVED_FILES
    )


ROWS = removed(
    ("C", "near_duplicate", "r1", "a.c", 100, "r0", "k.c", 0.9),
    ("C", "near_duplicate", "r2", "b.c", 50, "r0", "k.c", 0.75),
    ("C", "exact_duplicate", "r3", "c.c", 25, "r0", "k.c", None),
    ("Go", "repository_duplicate", "fork", "d.go", 7, "big", None, None),
)


def test_savings_and_clusters_add_up():
    page = report_page(ROWS, {"C": (10, 350), "Go": (1, 7)})
    assert (
        "<td>C</td><td class=n>10</td><td class=n>350</td><td>near_duplicate</td><td class=n>2</td>" in page
    )
    assert "42.9%" in page
    assert "100.0%" in page
    assert "<td>r0/k.c</td><td>C</td><td class=n>3</td><td class=n>175</td><td class=n>0.75</td>" in page
    assert "<td>big</td><td>Go</td>" in page
    assert largest_clusters(ROWS, 1).to_pylist() == [
        {
            "language": "C",
            "kept_repo_name": "r0",
            "kept_path": "k.c",
            "files": 3,
            "bytes": 175,
            "least_jaccard": 0.75,
        }
    ]


def test_the_page_does_not_depend_on_the_order_of_rows():
    totals = {"C": (10, 350), "Go": (1, 7)}
    assert report_page(ROWS.take([3, 1, 0, 2]), totals) == report_page(ROWS, totals)


def test_every_name_and_text_is_escaped():
    evil = "<script>alert('x')</script>&"
    rows = removed((evil, evil, evil, evil, 1, evil, evil, 0.8))
    pair = Pair(evil, evil, 0.8, evil + "\n" + evil, evil)
    page = report_page(rows, {evil: (1, 1)}, [pair]) + pair_page(pair)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 12
    assert "src=" not in page
    assert "href=" not in page


def test_a_pair_stands_side_by_side_with_its_differences_marked():
    page = pair_page(Pair("kept.py", "gone.py", 0.8125, "one\ntwo\nthree", "one\n2\nthree\nfour"))
    assert "gone.py left for kept.py (Jaccard 0.812)" in page
    assert "<tr><td>one</td><td>one</td></tr>" in page
    assert '<tr class="changed"><td>two</td><td>2</td></tr>' in page
    assert '<tr class="changed"><td></td><td>four</td></tr>' in page


def test_long_texts_are_cut_and_say_so():
    page = pair_page(Pair("a", "b", None, "line\n" * 5000, "x" * 10_000))
    assert "… 3,500 more lines" in page
    assert len(page) < 200_000
    assert "x" * 300 + " …" in page


def test_nothing_removed_is_a_page_too():
    assert "Largest clusters" in report_page(REMOVED_FILES.empty_table(), {})


def test_a_table_without_the_columns_is_refused():
    with pytest.raises(SchemaError, match="the table of removed files lacks the columns language"):
        report_page(pa.table({"reason": ["x"]}), {})
