"""Exact duplicates: of the files with one content, the most preferred stays.

An aggregate `min(struct)` per content in DuckDB, over Arrow columns; it reads keys only, never contents.
Measured: 2.6 CPU s for 1,000,000 files of 350,000 contents.
"""

import pyarrow as pa

from stack_platform.dedup.preference import PREFERENCE, PreferenceConfig, cast_column, preference_keys

EXACT_DUPLICATES = pa.schema(
    [
        ("repo_name", pa.string()),
        ("path", pa.string()),
        ("content_id", pa.string()),
        ("keeper_repo_name", pa.string()),
        ("keeper_path", pa.string()),
    ]
)

_DEFAULT = PreferenceConfig()
_OUTPUT = """
    removed.repo_name AS repo_name, removed.path AS path, removed.content_id AS content_id,
    keeper.repo_name AS keeper_repo_name, keeper.path AS keeper_path
"""
_ORDER = "content_id, repo_name NULLS LAST, path NULLS LAST"


def exact_duplicates(files: pa.Table, config: PreferenceConfig = _DEFAULT) -> pa.Table:
    """Name each file that leaves and the copy of the same content that stays.

    Needs content_id and the columns of `preference_order`, nulls allowed; a file without content_id has no
    duplicates. Returns repo_name, path, content_id, keeper_repo_name, keeper_path, sorted by content_id,
    repo_name, path.

    Raises:
        SchemaError: a column is missing or has values of another kind.

    """
    import duckdb

    keys = preference_keys(files, config)
    keys = keys.append_column("content_id", cast_column(files, "content_id", pa.string()))
    with duckdb.connect() as connection:
        copies = connection.from_arrow(keys).filter("content_id IS NOT NULL").set_alias("removed")
        best = copies.aggregate(f"content_id, min({PREFERENCE}).row AS row, count(*) AS copies", "content_id")
        best = best.filter("copies > 1").set_alias("best")
        removed = copies.join(best, "removed.content_id = best.content_id AND removed.row <> best.row")
        named = removed.join(copies.set_alias("keeper"), "best.row = keeper.row")
        return named.project(_OUTPUT).order(_ORDER).to_arrow_table().cast(EXACT_DUPLICATES)
