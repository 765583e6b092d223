"""Walk a graph from its origins to one row per path.

1. For every origin the latest full visit, or the latest up to a date; where there is none, the latest partial one,
   as of a shallow clone. An origin that was not visited by then is
   met through the history of its first visit (`first_parents.py`): an approximation, and `point_in_time` says so.
2. In its snapshot the branch HEAD, else main, else master, through aliases, releases and revisions to a directory;
   `find_roots` says for every origin where that ended or why it did not.
3. From the roots downwards, one join per level (The Stack v2 does the same on Spark, 64 levels), then one join with
   the contents.

Nothing is lost: what has no readable bytes stays as a row with a `skip_reason` (symbolic link, submodule, content
or directory that the archive lacks or skipped), and a name that is not UTF-8 is written with backslash escapes and
marked in `path_problem`. Dates outside of the years 1 to 9999, which real revisions have, become null.
Works on Arrow tables and on Parquet data sets; the schema is the export's, also for aliases, whose target the export
writes as the other branch's name in hexadecimal.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
from pyarrow.dataset import Dataset

from stack_platform.archive.git.first_parents import FirstParents
from stack_platform.errors import ConfigError, SchemaError, SourceError
from stack_platform.schemas import TIMESTAMP

ROOTS = pa.schema(
    [
        ("repo_name", pa.string()),
        ("snapshot_id", pa.string()),
        ("branch_name", pa.string()),
        ("release_id", pa.string()),
        ("revision_id", pa.string()),
        ("directory_id", pa.string()),  # null where there is a problem
        ("visit_date", TIMESTAMP),
        ("revision_date", TIMESTAMP),
        ("committer_date", TIMESTAMP),
        ("point_in_time", pa.string()),  # visit, partial-visit, or first-parent: an approximation
        ("problem", pa.string()),  # why no directory was found
    ]
)

WALKED = pa.schema(
    [
        ("repo_name", pa.string()),
        ("path", pa.string()),
        ("content_id", pa.string()),  # sha1_git; null where unknown and for submodules
        ("blob_id", pa.string()),  # sha1
        ("directory_id", pa.string()),  # the root
        ("snapshot_id", pa.string()),
        ("revision_id", pa.string()),
        ("release_id", pa.string()),
        ("branch_name", pa.string()),
        ("visit_date", TIMESTAMP),
        ("revision_date", TIMESTAMP),
        ("committer_date", TIMESTAMP),
        ("point_in_time", pa.string()),
        ("length_bytes", pa.int64()),
        ("perms", pa.int32()),  # as in git
        ("path_problem", pa.string()),  # null, or 'not UTF-8'
        ("skip_reason", pa.string()),  # null where the content can be read
    ]
)

_MAX_DEPTH = 512
_MAX_HOPS = 20
_NEEDED = {
    "origin": ("url",),
    "origin_visit_status": ("origin", "visit", "date", "status", "snapshot"),
    "snapshot_branch": ("snapshot_id", "name", "target", "target_type"),
    "release": ("id", "target", "target_type"),
    "revision": ("id", "directory", "date", "committer_date"),
    "revision_history": ("id", "parent_id", "parent_rank"),
    "directory_entry": ("directory_id", "name", "type", "target", "perms"),
    "content": ("sha1", "sha1_git", "length", "status"),
    "skipped_content": ("sha1", "sha1_git", "length", "reason", "origin", "path", "visit"),
}

_MICROSECONDS = """
CREATE MACRO microseconds(d) AS
    CASE WHEN d.seconds BETWEEN -62135596800 AND 253402300799 THEN d.seconds * 1000000 + d.microseconds END
"""

_VISITS = """
CREATE TEMP TABLE latest AS
WITH
useful AS (
    SELECT origin, visit, snapshot, microseconds(date) AS visit_date, status = 'full' AS whole
    FROM origin_visit_status WHERE status IN ('full', 'partial') AND snapshot IS NOT NULL),
exact AS (
    SELECT origin, snapshot, visit_date, if(whole, 'visit', 'partial-visit') AS point_in_time, visit FROM useful
    WHERE $as_of IS NULL OR coalesce(visit_date <= $as_of, false)
    QUALIFY row_number() OVER (
        PARTITION BY origin ORDER BY whole DESC, visit_date DESC NULLS LAST, visit DESC, snapshot) = 1),
later AS (
    SELECT origin, snapshot, visit_date, 'first-parent' AS point_in_time, visit FROM useful
    WHERE whole AND origin NOT IN (SELECT origin FROM exact)
    QUALIFY row_number() OVER (
        PARTITION BY origin ORDER BY visit_date NULLS FIRST, visit, snapshot) = 1)
SELECT * FROM exact UNION ALL SELECT * FROM later
"""

_HEADS = """
CREATE TEMP TABLE head AS
WITH RECURSIVE
preferred(name, rank) AS (
    VALUES ('HEAD'::BLOB, 0), ('refs/heads/main'::BLOB, 1), ('refs/heads/master'::BLOB, 2),
           ('main'::BLOB, 3), ('master'::BLOB, 4)),
branch AS (SELECT * FROM snapshot_branch WHERE snapshot_id IN (SELECT snapshot FROM latest)),
step AS (
    SELECT b.snapshot_id, p.rank, b.name AS branch, b.target, b.target_type,
        NULL::VARCHAR AS release_id, NULL::VARCHAR AS revision_id, NULL::VARCHAR AS problem, 0 AS hops
    FROM branch AS b JOIN preferred AS p ON b.name = p.name
    UNION ALL
    SELECT s.snapshot_id, s.rank, coalesce(b.name, s.branch),
        CASE s.target_type WHEN 'alias' THEN b.target WHEN 'release' THEN r.target ELSE v.directory END,
        CASE s.target_type WHEN 'alias' THEN b.target_type WHEN 'release' THEN r.target_type
            ELSE if(v.id IS NULL, NULL, 'directory') END,
        coalesce(s.release_id, r.id), coalesce(s.revision_id, v.id),
        if(b.name IS NULL AND r.id IS NULL AND v.id IS NULL,
            'the ' || s.target_type || ' ' || s.target || ' is not in the archive', NULL),
        s.hops + 1
    FROM step AS s
    LEFT JOIN branch AS b ON s.target_type = 'alias' AND b.snapshot_id = s.snapshot_id
        AND (lower(hex(b.name)) = s.target OR b.name = encode(s.target))
    LEFT JOIN release AS r ON s.target_type = 'release' AND r.id = s.target
    LEFT JOIN revision AS v ON s.target_type = 'revision' AND v.id = s.target
    WHERE s.target_type IN ('alias', 'release', 'revision') AND s.hops < $max_hops)
SELECT snapshot_id, branch, release_id, revision_id,
    if(target_type = 'directory', target, NULL) AS directory_id,
    CASE WHEN target_type = 'directory' THEN NULL WHEN problem IS NOT NULL THEN problem
        WHEN hops >= $max_hops THEN 'the branch ' || hex(branch) || ' (hexadecimal) never ends at a directory'
        ELSE 'the branch points to a ' || target_type END AS problem
FROM step
WHERE hops >= $max_hops OR target_type IS NULL OR target_type NOT IN ('alias', 'release', 'revision')
QUALIFY row_number() OVER (
    PARTITION BY snapshot_id ORDER BY target_type = 'directory' DESC NULLS LAST, rank, hops, branch, target) = 1
"""

_ROOTS = """
CREATE TEMP TABLE root AS
WITH
known AS (
    SELECT url, NULL AS visit, NULL AS status, NULL AS visited FROM origin
    UNION ALL SELECT origin, visit, status, microseconds(date) FROM origin_visit_status),
named AS (
    SELECT url AS repo_name, arg_max(status, (coalesce(visited, -9e18::BIGINT), visit)) AS last_status
    FROM known WHERE url IS NOT NULL GROUP BY url)
SELECT n.repo_name, l.snapshot AS snapshot_id, h.branch, h.release_id, h.revision_id, h.directory_id,
    l.visit, l.visit_date, l.point_in_time,
    microseconds(v.date) AS revision_date, microseconds(v.committer_date) AS committer_date,
    CASE WHEN h.directory_id IS NOT NULL THEN NULL
        WHEN l.origin IS NULL
            THEN 'no full visit with a snapshot: ' || coalesce('the last one is ' || n.last_status, 'never visited')
        ELSE coalesce(h.problem, 'the snapshot has no branch HEAD, main or master') END AS problem
FROM named AS n
LEFT JOIN latest AS l ON l.origin = n.repo_name
LEFT JOIN head AS h ON h.snapshot_id = l.snapshot
LEFT JOIN (SELECT id, any_value(date) AS date, any_value(committer_date) AS committer_date
    FROM revision WHERE id IN (SELECT revision_id FROM head) GROUP BY id) AS v ON v.id = h.revision_id
"""

_EARLIER = """
UPDATE root SET revision_id = e.found, release_id = NULL, directory_id = v.directory,
    revision_date = microseconds(v.date), committer_date = microseconds(v.committer_date),
    problem = CASE WHEN v.id IS NOT NULL THEN NULL
        WHEN e.revision_id IS NULL THEN 'no full visit with a snapshot up to that date'
        ELSE 'no full visit with a snapshot up to that date, and no commit of the next one is that old' END
FROM earlier AS e LEFT JOIN (
    SELECT id, any_value(directory) AS directory, any_value(date) AS date,
        any_value(committer_date) AS committer_date
    FROM revision WHERE id IN (SELECT found FROM earlier) GROUP BY id) AS v ON v.id = e.found
WHERE root.repo_name = e.repo_name
"""

_START = """
CREATE TEMP TABLE walked (root VARCHAR, path BLOB, type VARCHAR, target VARCHAR, perms INTEGER);
CREATE TEMP TABLE frontier AS
SELECT DISTINCT directory_id AS root, directory_id AS directory, ''::BLOB AS path
FROM root WHERE directory_id IS NOT NULL;
"""

_LEVEL = """
CREATE OR REPLACE TEMP TABLE found AS
SELECT DISTINCT f.root, f.path AS above, e.name, e.type, e.target, e.perms, f.directory,
    if(f.path = ''::BLOB, e.name, f.path || '/'::BLOB || e.name) AS path
FROM frontier AS f LEFT JOIN directory_entry AS e ON e.directory_id = f.directory;
INSERT INTO walked SELECT root, path, type, target, perms FROM found WHERE type <> 'dir';
INSERT INTO walked SELECT root, above, 'dir', directory, 16384 FROM found
WHERE name IS NULL AND directory <> '4b825dc642cb6eb9a060e54bf8d69288fbee4904';
CREATE OR REPLACE TEMP TABLE frontier AS SELECT root, target AS directory, path FROM found WHERE type = 'dir';
"""

_FILES = """
WITH
held AS (
    SELECT sha1_git, min(sha1) AS sha1, min(length) AS length, min(status) AS status FROM content
    WHERE sha1_git IN (SELECT target FROM walked) GROUP BY sha1_git),
skipped AS (
    SELECT sha1_git, min(sha1) AS sha1, min(length) AS length, min(reason) AS reason FROM skipped_content
    WHERE sha1_git IN (SELECT target FROM walked) GROUP BY sha1_git),
found AS (
    SELECT w.root, w.path, if(w.type = 'file', w.target, NULL) AS content_id,
        coalesce(h.sha1, s.sha1) AS blob_id, coalesce(h.length, s.length) AS length_bytes, w.perms,
        CASE WHEN w.type = 'rev' THEN 'submodule'
            WHEN w.type = 'dir' THEN 'the directory ' || w.target || ' is not in the archive'
            WHEN w.perms & 61440 = 40960 THEN 'symbolic link'
            WHEN h.status = 'hidden' THEN 'hidden'
            WHEN h.sha1_git IS NULL THEN coalesce(s.reason, 'the content is not in the archive') END AS skip_reason
    FROM walked AS w
    LEFT JOIN held AS h ON w.type = 'file' AND h.sha1_git = w.target
    LEFT JOIN skipped AS s ON w.type = 'file' AND s.sha1_git = w.target),
unread AS (
    SELECT r.repo_name, s.path, any_value(s.length) AS length_bytes, min(s.reason) AS skip_reason
    FROM skipped_content AS s JOIN root AS r ON r.repo_name = s.origin AND r.visit = coalesce(s.visit, r.visit)
    WHERE r.point_in_time <> 'first-parent' AND s.sha1_git IS NULL AND s.path IS NOT NULL AND r.directory_id IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM walked AS w WHERE w.root = r.directory_id AND w.path = s.path)
    GROUP BY r.repo_name, s.path)
SELECT r.repo_name, f.path, f.content_id, f.blob_id, r.directory_id, r.snapshot_id, r.revision_id, r.release_id,
    r.branch AS branch_name, r.visit_date, r.revision_date, r.committer_date, r.point_in_time,
    f.length_bytes, f.perms, f.skip_reason
FROM root AS r JOIN found AS f ON f.root = r.directory_id
UNION ALL
SELECT r.repo_name, u.path, NULL, NULL, r.directory_id, r.snapshot_id, r.revision_id, r.release_id,
    r.branch, r.visit_date, r.revision_date, r.committer_date, r.point_in_time,
    u.length_bytes, NULL, u.skip_reason
FROM unread AS u JOIN root AS r USING (repo_name)
ORDER BY repo_name, path
"""


def read_date(text: str) -> datetime:
    """Read a date to go back to, as 2023-09-06 or 2023-09-06T12:00:00+02:00; a day without a time is meant whole.

    Without an offset it is UTC. Raises ConfigError for anything else.

    >>> read_date("2023-09-06").isoformat()
    '2023-09-06T23:59:59.999999+00:00'
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no date; write it as 2023-09-06 or 2023-09-06T12:00:00+00:00"
        ) from error
    if len(text) == len("2023-09-06"):
        moment = moment.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def find_roots(tables: Mapping[str, pa.Table | Dataset], as_of: datetime | None = None) -> pa.Table:
    """Give one row of schema `ROOTS` per origin, ordered by URL: its root directory, or why there is none.

    Visits without a date count as the oldest, and with `as_of` as one that came later.

    Raises:
        ConfigError: `as_of` has no time zone.
        SchemaError: a table or a column is missing.

    """
    with duckdb.connect() as connection:
        _resolve(connection, tables, as_of)
        query = "SELECT * EXCLUDE visit RENAME (branch AS branch_name) FROM root ORDER BY repo_name"
        return _decoded(connection.sql(query).to_arrow_table(), ROOTS)


def walk_files(tables: Mapping[str, pa.Table | Dataset], as_of: datetime | None = None) -> pa.Table:
    """Give one row of schema `WALKED` per path of every origin's root directory, ordered by repo_name and path.

    Tables in: origin, origin_visit_status, snapshot_branch, release, revision, directory_entry, content,
    skipped_content; the data of contents is not read.

    Raises:
        ConfigError: `as_of` has no time zone.
        SchemaError: a table or a column is missing.
        SourceError: directories hold each other.

    """
    with duckdb.connect() as connection:
        _resolve(connection, tables, as_of)
        connection.execute(_START)
        for _ in range(_MAX_DEPTH):
            connection.execute(_LEVEL)
            if not connection.sql("SELECT 1 FROM frontier LIMIT 1").fetchall():
                return _decoded(connection.sql(_FILES).to_arrow_table(), WALKED)
    raise SourceError(f"directories nest more than {_MAX_DEPTH} levels deep; look for one that holds itself")


def _resolve(
    connection: duckdb.DuckDBPyConnection, tables: Mapping[str, pa.Table | Dataset], as_of: datetime | None
) -> None:
    """Register the tables and fill the table `root`."""
    if as_of is not None and as_of.tzinfo is None:
        raise ConfigError(f"as_of {as_of.isoformat()} has no time zone; add one, as in '+00:00'")
    for name, columns in _NEEDED.items():
        if name not in tables:
            raise SchemaError(f"the archive has no table {name!r}; it has {', '.join(sorted(tables))}")
        missing = [column for column in columns if column not in tables[name].schema.names]
        if missing:
            raise SchemaError(f"the table {name} lacks the columns {', '.join(missing)}")
        connection.register(name, tables[name])
    since = None if as_of is None else (as_of - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    connection.execute(_MICROSECONDS)
    connection.execute(_VISITS, {"as_of": since})
    connection.execute(_HEADS, {"max_hops": _MAX_HOPS})
    connection.execute(_ROOTS)
    if since is not None:
        _go_back(connection, since // 1_000_000)


def _go_back(connection: duckdb.DuckDBPyConnection, seconds: int) -> None:
    """Replace the heads of visits that came later than the date by their nearest ancestors before it."""
    later = connection.sql(
        "SELECT repo_name, revision_id FROM root WHERE point_in_time = 'first-parent'"
    ).to_arrow_table()
    if not later.num_rows:
        return
    revisions = connection.sql("SELECT id, committer_date.seconds AS seconds FROM revision").to_arrow_table()
    history = connection.sql(
        "SELECT id, parent_id FROM revision_history WHERE parent_rank = 0"
    ).to_arrow_table()
    heads = [head or "0" * 40 for head in later["revision_id"].to_pylist()]
    found = FirstParents(revisions, history).before(heads, seconds)
    connection.register("earlier", later.append_column("found", pa.array(found, pa.string())))
    connection.execute(_EARLIER)


def _decoded(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Turn names of bytes into text and microseconds into timestamps."""
    columns = {name: table[name] for name in table.column_names}
    if "path" in columns:
        columns["path"], columns["path_problem"] = _text(columns["path"])
    columns["branch_name"], _ = _text(columns["branch_name"])
    arrays = []
    for field in schema:
        column = columns[field.name]
        arrays.append(
            column.cast(pa.int64()).cast(field.type) if field.type == TIMESTAMP else column.cast(field.type)
        )
    return pa.Table.from_arrays(arrays, schema=schema)


def _text(names: pa.ChunkedArray) -> tuple[pa.ChunkedArray | pa.Array, pa.Array]:
    """Decode names; where one is not UTF-8, escape its bytes and say so."""
    try:
        return names.cast(pa.string()), pa.nulls(len(names), pa.string())
    except pa.ArrowInvalid:
        values = names.to_pylist()
    texts: list[str | None] = []
    problems: list[str | None] = []
    for value in values:
        text = None if value is None else value.decode("utf-8", "backslashreplace")
        texts.append(text)
        problems.append(None if text is None or text.encode() == value else "not UTF-8")
    return pa.array(texts, pa.string()), pa.array(problems, pa.string())
