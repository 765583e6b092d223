"""Pages for people about what left as a duplicate: savings by language, the largest clusters, pairs side by side.

One self-contained HTML page, without scripts; every name and text is escaped. Lines are aligned by difflib
(Ratcliff and Obershelp), which is quadratic at worst, hence the limits on lines and their length.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from html import escape

import pyarrow as pa

from stack_platform.schemas import conform

REMOVED_FILES = pa.schema(
    [
        ("language", pa.string()),
        ("reason", pa.string()),  # exact_duplicate, near_duplicate, repository_duplicate
        ("repo_name", pa.string()),
        ("path", pa.string()),
        ("length_bytes", pa.int64()),
        ("kept_repo_name", pa.string()),
        ("kept_path", pa.string()),  # null where a whole repository left
        ("jaccard", pa.float64()),  # null where it was not compared
    ]
)

_LINES = 1500  # lines of a text that a page shows
_COLUMNS = 300  # characters of a line that a page shows
_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 2rem; width: 100% }
th, td { padding: .2rem .6rem; text-align: left; vertical-align: top }
th { border-bottom: 2px solid; font-weight: 600 } td { border-bottom: 1px solid #8884 }
.n { text-align: right; font-variant-numeric: tabular-nums }
.bar { background: #4a7fc1; display: inline-block; height: .7em }
.pair { font: 12px/1.4 ui-monospace, monospace; table-layout: fixed }
.pair td { border: 0; height: 1.4em; overflow-wrap: anywhere; padding: 0 .5rem; white-space: pre-wrap; width: 50% }
.pair tr.changed td { background: #d9a40033 }
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """A file that left and the one that was kept for it."""

    kept: str
    """how to name the kept file"""
    removed: str
    jaccard: float | None
    kept_text: str
    removed_text: str


def report_page(
    removed: pa.Table,
    totals: Mapping[str, tuple[int, int]],
    pairs: Sequence[Pair] = (),
    *,
    clusters: int = 50,
) -> str:
    """Render the report: `removed` has the columns REMOVED_FILES, `totals` the files and bytes of each language.

    Shows the `clusters` largest groups of files that left for the same kept one.

    Raises:
        SchemaError: a column of `removed` is missing or of another type.

    """
    removed = conform(removed, REMOVED_FILES, "the table of removed files")
    body = [
        "<h1>Duplicates</h1>",
        "<h2>Savings by language</h2>",
        *_savings(removed, totals),
        "<h2>Largest clusters</h2>",
        *_clusters(removed, clusters),
    ]
    if pairs:
        body.append("<h2>Pairs</h2>")
    for pair in pairs:
        body += ["<details><summary>", _title(pair), "</summary>", *_side_by_side(pair), "</details>"]
    return _page("Duplicates", body)


def pair_page(pair: Pair) -> str:
    """Render one pair side by side."""
    return _page("A pair of duplicates", ["<h1>", _title(pair), "</h1>", *_side_by_side(pair)])


def largest_clusters(removed: pa.Table, count: int) -> pa.Table:
    """Return the files kept for the most others: language, kept_repo_name, kept_path, files, bytes, least_jaccard."""
    keys = ["language", "kept_repo_name", "kept_path"]
    found = removed.group_by(keys, use_threads=False).aggregate(
        [("path", "count"), ("length_bytes", "sum"), ("jaccard", "min")]
    )
    found = found.rename_columns([*keys, "files", "bytes", "least_jaccard"])
    order = [("files", "descending"), ("bytes", "descending"), *((key, "ascending") for key in keys)]
    return found.sort_by(order).slice(0, count)


def _savings(removed: pa.Table, totals: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    yield _row("th", "language", "files", "bytes", "left as", "files", "bytes", "of the bytes")
    grouped = removed.group_by(["language", "reason"], use_threads=False).aggregate(
        [("path", "count"), ("length_bytes", "sum")]
    )
    for row in grouped.sort_by([("language", "ascending"), ("reason", "ascending")]).to_pylist():
        files, size = totals.get(row["language"], (0, 0))
        gone = row["length_bytes_sum"] or 0
        share = gone / size if size else 0.0
        bar = f'<span class="bar" style="width: {8 * min(share, 1):.2f}em"></span> {share:.1%}'
        cells = (
            row["language"],
            f"{files:,}",
            f"{size:,}",
            row["reason"],
            f"{row['path_count']:,}",
            f"{gone:,}",
        )
        yield _row("td", *cells, html=bar)
    yield "</table>"


def _clusters(removed: pa.Table, count: int) -> Iterator[str]:
    yield _row("th", "kept", "language", "files that left", "their bytes", "least similarity")
    for row in largest_clusters(removed, count).to_pylist():
        kept = "/".join(part for part in (row["kept_repo_name"], row["kept_path"]) if part)
        least = "" if row["least_jaccard"] is None else f"{row['least_jaccard']:.2f}"
        yield _row("td", kept, row["language"], f"{row['files']:,}", f"{row['bytes'] or 0:,}", least)
    yield "</table>"


def _row(cell: str, *values: str | None, html: str = "") -> str:
    """Render a row of a table; a row of headings opens the table."""
    cells = "".join(
        f"<{cell}{' class=n' if (value or '')[:1].isdigit() else ''}>{escape(value or '')}</{cell}>"
        for value in values
    )
    return ("<table>" if cell == "th" else "") + f"<tr>{cells}{f'<td>{html}</td>' if html else ''}</tr>"


def _title(pair: Pair) -> str:
    how = "" if pair.jaccard is None else f" (Jaccard {pair.jaccard:.3f})"
    return escape(f"{pair.removed} left for {pair.kept}{how}")


def _side_by_side(pair: Pair) -> Iterator[str]:
    kept, removed = _lines(pair.kept_text), _lines(pair.removed_text)
    yield f'<table class="pair"><tr><th>{escape(pair.kept)}</th><th>{escape(pair.removed)}</th></tr>'
    matcher = SequenceMatcher(None, kept, removed)
    for kind, left, left_end, right, right_end in matcher.get_opcodes():
        style = "" if kind == "equal" else ' class="changed"'
        for step in range(max(left_end - left, right_end - right)):
            one = kept[left + step] if left + step < left_end else ""
            other = removed[right + step] if right + step < right_end else ""
            yield f"<tr{style}><td>{escape(one)}</td><td>{escape(other)}</td></tr>"
    yield "</table>"


def _lines(text: str) -> list[str]:
    lines = text.splitlines()
    shown = [line if len(line) <= _COLUMNS else line[:_COLUMNS] + " …" for line in lines[:_LINES]]
    return shown if len(lines) <= _LINES else [*shown, f"… {len(lines) - _LINES:,} more lines"]


def _page(title: str, body: Sequence[str]) -> str:
    return "\n".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style>",
            *body,
            "</html>",
            "",
        ]
    )
