"""Sum up what languages files are written in: how many, how many bytes, of which family and kind."""

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform.errors import SchemaError
from stack_platform.languages.catalog import catalog

SUMMARY = pa.schema(
    [
        ("language", pa.string()),
        ("group", pa.string()),
        ("type", pa.string()),
        ("files", pa.int64()),
        ("bytes", pa.int64()),
        ("vendored", pa.int64()),
        ("generated", pa.int64()),
        ("share", pa.float64()),
    ]
)
"""One row per language; `group` is the family it is counted under ("TSX" under "TypeScript")."""


def summarize(files: pa.Table) -> pa.Table:
    """Return the languages of files, most bytes first, then by name; files without a language come under null.

    Columns in: `language`, `length_bytes`, `is_vendor`, `is_generated` (The Stack v2's). Columns out: `SUMMARY`;
    `files` counts rows, `vendored` and `generated` those with the mark, `share` is of all bytes, 0 to 1.

    Raises:
        SchemaError: one of the four columns is missing.

    """
    needed = ["language", "length_bytes", "is_vendor", "is_generated"]
    missing = [name for name in needed if name not in files.column_names]
    if missing:
        raise SchemaError(
            f"a summary of languages needs the columns {missing}; the files have {files.column_names}"
        )
    numbers = files.select(needed)
    for name in needed[1:]:
        filled = pc.fill_null(pc.cast(numbers[name], pa.int64()), 0)
        numbers = numbers.set_column(numbers.column_names.index(name), name, filled)
    sums = numbers.group_by("language").aggregate(
        [([], "count_all"), *((name, "sum") for name in needed[1:])]
    )
    total = max(1, pc.sum(numbers["length_bytes"]).as_py() or 0)
    known = catalog().languages
    rows = []
    for row in sums.to_pylist():
        language = known.get(row["language"])
        rows.append(
            {
                "language": row["language"],
                "group": language.group if language else row["language"],
                "type": language.type if language else None,
                "files": row["count_all"],
                "bytes": row["length_bytes_sum"],
                "vendored": row["is_vendor_sum"],
                "generated": row["is_generated_sum"],
                "share": row["length_bytes_sum"] / total,
            }
        )
    rows.sort(key=lambda row: (-row["bytes"], row["language"] or ""))
    return pa.Table.from_pylist(rows, schema=SUMMARY)


def added_up(summary: pa.Table, by: str) -> pa.Table:
    """Return a summary added up by `group` (family) or `type`: its columns of numbers, most bytes first.

    By `language` it is the summary itself.
    """
    if by == "language":
        return summary
    numbers = ["files", "bytes", "vendored", "generated", "share"]
    sums = summary.group_by(by).aggregate([(name, "sum") for name in numbers])
    named = sums.select([by, *(f"{name}_sum" for name in numbers)]).rename_columns([by, *numbers])
    return named.sort_by([("bytes", "descending"), (by, "ascending")])
