"""Which of several copies stays: one total order over files, written once, for exact and near duplicates.

Better license class first (permissive, no_license, non_permissive, unknown), then more stars, more forks, the
revision date by policy, repo_name, path, blob_id; nulls come last in each. The order up to the date is that
of BigCode's deduplication of The Stack v2 (bigcode-dataset, near_deduplication/bigcode-v2), which prefers the
newest revision; the oldest, our default, is the likelier origin. Names and ids are compared by their UTF-8 bytes.
Rows that agree in all of these keep the order they came in.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform.errors import ConfigError, SchemaError

LICENSE_CLASSES = ("permissive", "no_license", "non_permissive", "unknown")  # best first
REVISION_DATES = ("oldest", "newest")

# DuckDB compares structs field by field; a flag in front of each field sends its nulls to the end
PREFERENCE = """struct_pack(
    license := license,
    no_stars := stars IS NULL, stars := coalesce(-stars, 0),
    no_forks := forks IS NULL, forks := coalesce(-forks, 0),
    no_date := date IS NULL, date := coalesce(date, 0),
    no_repo_name := repo_name IS NULL, repo_name := coalesce(repo_name, ''),
    no_path := path IS NULL, path := coalesce(path, ''),
    no_blob_id := blob_id IS NULL, blob_id := coalesce(blob_id, ''),
    row := row
)"""


@dataclass(frozen=True, slots=True)
class PreferenceConfig:
    """The part of the order that is a policy.

    Attributes:
        revision_date: "oldest" or "newest", which revision wins between files of equal license and popularity

    """

    revision_date: str = "oldest"

    def __post_init__(self) -> None:
        """Refuse unknown policies."""
        if self.revision_date not in REVISION_DATES:
            raise ConfigError(f"revision_date is {self.revision_date!r}; write 'oldest' or 'newest'")


def preference_order(files: pa.Table, config: PreferenceConfig = PreferenceConfig()) -> pa.Array:
    """Return the row numbers of files (int64), best first.

    Needs license_type, star_events_count, fork_events_count, revision_date, repo_name, path and blob_id,
    nulls allowed; a null license_type counts as unknown.

    Raises:
        SchemaError: a column is missing or has values of another kind.

    """
    import duckdb

    with duckdb.connect() as connection:
        keys = connection.from_arrow(preference_keys(files, config))
        ordered = keys.order(PREFERENCE).project("row").to_arrow_table()
    return ordered["row"].combine_chunks()


def preference_keys(files: pa.Table, config: PreferenceConfig = PreferenceConfig()) -> pa.Table:
    """Return the columns that `PREFERENCE` is made of, one row per file, dates negated for the policy "newest".

    Raises:
        SchemaError: a column is missing or has values of another kind.

    """
    date = _date(files)
    return pa.table(
        {
            "row": pa.array(range(files.num_rows), pa.int64()),
            "license": _license_rank(files),
            "stars": cast_column(files, "star_events_count", pa.int64()),
            "forks": cast_column(files, "fork_events_count", pa.int64()),
            "date": pc.negate(date) if config.revision_date == "newest" else date,
            "repo_name": cast_column(files, "repo_name", pa.string()),
            "path": cast_column(files, "path", pa.string()),
            "blob_id": cast_column(files, "blob_id", pa.string()),
        }
    )


def cast_column(files: pa.Table, name: str, to: pa.DataType) -> pa.ChunkedArray:
    """Return one column with the type given.

    Raises:
        SchemaError: the column is missing or does not fit the type.

    """
    if name not in files.column_names:
        raise SchemaError(f"files lack the column {name}; they have {files.column_names}")
    try:
        return files[name].cast(to)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaError(f"{name} is {files[name].type} and does not become {to}: {error}") from error


def _license_rank(files: pa.Table) -> pa.ChunkedArray:
    classes = cast_column(files, "license_type", pa.string()).fill_null("unknown")
    ranks = pc.index_in(classes, value_set=pa.array(LICENSE_CLASSES))
    if ranks.null_count:
        stranger = classes.filter(pc.is_null(ranks))[0].as_py()
        raise SchemaError(f"license_type {stranger!r} is none of {', '.join(LICENSE_CLASSES)}")
    return ranks


def _date(files: pa.Table) -> pa.ChunkedArray:
    """Return the revision dates as microseconds since 1970."""
    column = files["revision_date"] if "revision_date" in files.column_names else None
    if column is not None and pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    elif column is not None and not pa.types.is_null(column.type):
        raise SchemaError(f"revision_date is {column.type}; give it as a timestamp")
    return cast_column(
        files if column is None else pa.table({"revision_date": column}), "revision_date", pa.int64()
    )
