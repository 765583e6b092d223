"""What is known of repositories beyond their source code: stars, forks, dates, license, as The Stack v2 has it.

Software Heritage does not keep these; the user supplies them, in one of two forms:
1. a table (Parquet, CSV, or JSON with an object a line) with the column `repo_name`, an origin's URL or `owner/name`
   on GitHub, and any of the columns of `REPOSITORIES`; others are left out;
2. a folder of GH Archive's hours (https://www.gharchive.org, `2023-09-06-15.json.gz`), an event a line. Stars are
   counted from WatchEvent, forks from ForkEvent; license, language and date of creation come from the newest record
   of the repository that a pull request (`payload.pull_request.base.repo`) or a fork (`payload.forkee`) carries.
   Format: GitHub's events API of 2015 and later.

Source: The Stack v2's merge of GH Archive and Software Heritage (Lozhkov et al. 2024, section 2). Known error, as
there: a renamed repository counts under each of its names.
"""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from stack_platform.errors import ConfigError, SchemaError, SourceError
from stack_platform.schemas import TIMESTAMP

REPOSITORIES = pa.schema(
    [
        ("repo_name", pa.string()),  # as `normalize` writes it
        ("github_id", pa.int64()),
        ("star_events_count", pa.int64()),
        ("fork_events_count", pa.int64()),
        ("gha_license_id", pa.string()),
        ("gha_event_created_at", TIMESTAMP),
        ("gha_created_at", TIMESTAMP),
        ("gha_language", pa.string()),
    ]
)

_READERS = {
    ".parquet": "read_parquet",
    ".csv": "read_csv",
    ".json": "read_json",
    ".jsonl": "read_json",
    ".ndjson": "read_json",
}
_NORMALIZE = """
CREATE MACRO normalize(name) AS regexp_replace(regexp_replace(regexp_replace(lower(trim(name)),
    '^(git\\+)?(https?|git|ssh)://(www\\.)?(git@)?github\\.com/|^git@github\\.com:', ''), '/+$', ''), '\\.git$', '')
"""
_EVENTS = """
CREATE TEMP VIEW event AS
SELECT type, repo.id AS github_id, repo.name AS name, created_at,
    CASE type WHEN 'PullRequestEvent' THEN payload->'$.pull_request.base.repo'
        WHEN 'ForkEvent' THEN payload->'$.forkee' END AS record
FROM read_json($files, format = 'newline_delimited', columns = {
    'type': 'VARCHAR', 'repo': 'STRUCT(id BIGINT, name VARCHAR)', 'payload': 'JSON', 'created_at': 'TIMESTAMP'})
"""
_FROM_EVENTS = """
WITH
counted AS (
    SELECT normalize(name) AS repo_name, arg_max(github_id, created_at) AS github_id,
        count(*) FILTER (WHERE type = 'WatchEvent') AS star_events_count,
        count(*) FILTER (WHERE type = 'ForkEvent') AS fork_events_count
    FROM event WHERE name IS NOT NULL GROUP BY ALL),
newest AS (
    SELECT normalize(record->>'$.full_name') AS repo_name, created_at AS gha_event_created_at,
        CAST(record->>'$.id' AS BIGINT) AS github_id,
        record->>'$.license.spdx_id' AS gha_license_id,
        TRY_CAST(record->>'$.created_at' AS TIMESTAMP) AS gha_created_at,
        record->>'$.language' AS gha_language
    FROM event WHERE record->>'$.full_name' IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY normalize(record->>'$.full_name')
        ORDER BY created_at DESC, record->>'$.id', CAST(record AS VARCHAR)) = 1)
SELECT repo_name, coalesce(c.github_id, n.github_id) AS github_id,
    coalesce(star_events_count, 0) AS star_events_count, coalesce(fork_events_count, 0) AS fork_events_count,
    gha_license_id, gha_event_created_at, gha_created_at, gha_language
FROM counted AS c FULL JOIN newest AS n USING (repo_name) ORDER BY repo_name
"""


def read_repositories(place: Path) -> pa.Table:
    """Read a table, or a folder of GH Archive's files, into schema `REPOSITORIES`, one row per repository.

    Raises:
        ConfigError: there is nothing at the place, or it is in neither form.
        SchemaError: the table names no repositories, a repository twice, or a column has another type.
        SourceError: a file is damaged; the message is DuckDB's and names it.

    """
    with duckdb.connect() as connection:
        connection.execute(_NORMALIZE)
        try:
            found = _read_events(connection, place) if place.is_dir() else _read_table(connection, place)
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            raise SourceError(f"the repositories at {place} cannot be read: {error}") from error
        except duckdb.ConversionException as error:
            raise SchemaError(f"the repositories at {place} do not fit their columns: {error}") from error
    twice = found.num_rows - pc.count_distinct(found["repo_name"]).as_py()
    if twice:
        raise SchemaError(f"{twice} repositories at {place} are there more than once; keep one row of each")
    return found


def _read_events(connection: duckdb.DuckDBPyConnection, folder: Path) -> pa.Table:
    files = sorted(str(path) for path in folder.rglob("*") if path.name.endswith((".json.gz", ".json")))
    if not files:
        raise ConfigError(
            f"{folder} holds no hours of GH Archive; put files like 2023-09-06-15.json.gz there"
        )
    names = ", ".join(_quoted(name) for name in files)
    connection.execute(_EVENTS.replace("$files", f"[{names}]"))
    return connection.sql(_FROM_EVENTS).to_arrow_table().cast(REPOSITORIES)


def _read_table(connection: duckdb.DuckDBPyConnection, path: Path) -> pa.Table:
    reader = _READERS.get("".join(path.suffixes[-1:]).lower())
    if reader is None or not path.is_file():
        raise ConfigError(
            f"{path} is no table of repositories; write a {', '.join(_READERS)} file or a folder of GH Archive"
        )
    connection.execute(f"CREATE TEMP VIEW given AS SELECT * FROM {reader}({_quoted(str(path))})")  # noqa: S608
    there = [row[0] for row in connection.sql("DESCRIBE given").fetchall()]
    if "repo_name" not in there:
        raise SchemaError(f"{path} has no column repo_name; it has {', '.join(there)}")
    columns = [
        f"CAST({field.name if field.name in there else 'NULL'} AS {_sql_type(field.type)}) AS {field.name}"
        for field in REPOSITORIES
        if field.name != "repo_name"
    ]
    query = f"SELECT normalize(repo_name) AS repo_name, {', '.join(columns)} FROM given ORDER BY 1"  # noqa: S608
    return connection.sql(query).to_arrow_table().cast(REPOSITORIES)


def _quoted(text: str) -> str:
    """Write a text as a literal of SQL; a view takes no parameters."""
    return "'" + text.replace("'", "''") + "'"


def _sql_type(kind: pa.DataType) -> str:
    if kind == TIMESTAMP:
        return "TIMESTAMP"
    return "BIGINT" if kind == pa.int64() else "VARCHAR"


def describe_repositories(files: pa.Table, repositories: pa.Table) -> pa.Table:
    """Add the columns of `REPOSITORIES` to files by their column `repo_name`, null where nothing is known."""
    with duckdb.connect() as connection:
        connection.execute(_NORMALIZE)
        connection.register("names", pa.table({"name": files["repo_name"].unique()}))
        query = "SELECT name, normalize(name) AS repo_name FROM names"
        names = connection.sql(query).to_arrow_table()
    places = dict(zip(names["name"].to_pylist(), names["repo_name"].to_pylist(), strict=True))
    wanted = pa.array([places[name] for name in files["repo_name"].to_pylist()], pa.string())
    rows = pc.index_in(wanted, value_set=repositories["repo_name"].combine_chunks())
    for field in REPOSITORIES:
        if field.name != "repo_name":
            values = repositories[field.name].take(rows)
            at = files.schema.get_field_index(field.name)
            files = files.append_column(field, values) if at < 0 else files.set_column(at, field, values)
    return files
