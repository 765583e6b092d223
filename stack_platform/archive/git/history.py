"""Tell how a file changed: the revisions in which the entry at a path is another than in the revision before.

The path is resolved for all root directories at once, one join per part of the path (only the entries of that name
below the directories reached so far), and the revisions are compared afterwards in memory; nothing is joined per
revision: 0.2 s for 5,000 revisions with 170,000 entries. Equal to ``git log --first-parent -- <path>``; without
`first_parent` to ``git log --full-history -- <path>`` less the merges that took the file from one of their parents
as it was, those for which ``git diff-tree -c`` is silent. A change of the mode alone counts, as in git. Renames are
not followed. Revisions or directories that the archive lacks end the history as a first revision does.
"""

import re
from collections.abc import Iterator, Mapping

import duckdb
import pyarrow as pa
from pyarrow.dataset import Dataset

from stack_platform.archive.files import find_roots
from stack_platform.errors import ConfigError, SchemaError, SourceError
from stack_platform.schemas import DATE

HISTORY = pa.schema(
    [
        ("revision_id", pa.string()),
        ("date", DATE),  # the author's
        ("content_id", pa.string()),  # sha1_git after the change (of a directory, its id); null where deleted
        ("author", pa.binary()),  # as the archive holds it: a digest, or the full name
    ]
)

_NEEDED = ("revision", "revision_history", "directory_entry")
_ID = re.compile(r"[0-9a-f]{40}")

_START = "CREATE TEMP TABLE reached AS SELECT DISTINCT directory AS root, directory AS target, 0 AS perms FROM revision"
_PART = """
CREATE OR REPLACE TEMP TABLE reached AS
SELECT r.root, e.target, e.perms
FROM reached AS r JOIN (SELECT directory_id, target, perms FROM directory_entry WHERE name = $name) AS e
    ON e.directory_id = r.target
"""
_REVISIONS = (
    "SELECT v.id, r.target, r.perms FROM revision AS v LEFT JOIN reached AS r ON r.root = v.directory"
)
_PARENTS = "SELECT id, parent_id FROM revision_history WHERE $all OR parent_rank = 0 ORDER BY id, parent_rank"
_CHANGES = """
SELECT c.id AS revision_id, v.date, c.target AS content_id, v.author
FROM changes AS c
JOIN (SELECT id, any_value(date) AS date, any_value(author) AS author FROM revision
    WHERE id IN (SELECT id FROM changes) GROUP BY id) AS v USING (id)
ORDER BY c.place
"""

_Found = tuple[str | None, int | None]


def file_history(
    tables: Mapping[str, pa.Table | Dataset], start: str, path: str | bytes, first_parent: bool = True
) -> pa.Table:
    """Give one row of schema `HISTORY` per revision that changed the file at a path, newest first.

    `start` is a revision's id, or an origin's URL for the head of its latest full visit. Bytes of a path that are
    not UTF-8 are surrogate escapes, or the path is bytes. Without `first_parent` the order is the one in which
    walking from the start meets the revisions, level by level.

    Raises:
        ConfigError: the path is empty or has empty parts.
        SchemaError: a table is missing.
        SourceError: the revision or the origin is not in the archive, or the origin has no head.

    """
    raw = path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
    parts = raw.split(b"/")
    if not all(parts):
        raise ConfigError(f"path {path!r} has empty parts; write it from the root, as 'src/main.c'")
    missing = [name for name in _NEEDED if name not in tables]
    if missing:
        raise SchemaError(f"the archive has no table {missing[0]!r}; it has {', '.join(sorted(tables))}")
    revision = start if _ID.fullmatch(start) else _head(tables, start)
    with duckdb.connect() as connection:
        for name in _NEEDED:
            connection.register(name, tables[name])
        connection.execute(_START)
        for part in parts:
            connection.execute(_PART, {"name": part})
        found: dict[str, _Found] = {
            identifier: (target, perms) for identifier, target, perms in connection.sql(_REVISIONS).fetchall()
        }
        if revision not in found:
            raise SourceError(
                f"the revision {revision} is not in the archive; name one of the table revision"
            )
        parents: dict[str, list[str]] = {}
        for identifier, parent in connection.execute(_PARENTS, {"all": not first_parent}).fetchall():
            parents.setdefault(identifier, []).append(parent)
        changed = [(name, found[name][0]) for name in _changes(revision, found, parents)]
        ids, targets = zip(*changed, strict=True) if changed else ((), ())
        columns = [
            pa.array(ids, pa.string()),
            pa.array(targets, pa.string()),
            pa.array(range(len(ids)), pa.int64()),
        ]
        connection.register("changes", pa.table(columns, ["id", "target", "place"]))
        return connection.sql(_CHANGES).to_arrow_table().cast(HISTORY)


def _head(tables: Mapping[str, pa.Table | Dataset], origin: str) -> str:
    """Find the revision that an origin's head ends at."""
    rows = [row for row in find_roots(tables).to_pylist() if row["repo_name"] == origin]
    if not rows:
        raise SourceError(f"{origin!r} is neither a revision's id nor an origin in the archive")
    if rows[0]["revision_id"] is None:
        raise SourceError(f"the origin {origin!r} has no revision at its head: {rows[0]['problem']}")
    return str(rows[0]["revision_id"])


def _changes(start: str, found: dict[str, _Found], parents: dict[str, list[str]]) -> Iterator[str]:
    """Walk from a revision and give those whose entry differs from the one in each of their parents."""
    seen, level = {start}, [start]
    while level:
        above: list[str] = []
        for revision in level:
            before = [parent for parent in parents.get(revision, ()) if parent in found]
            entries = [found[parent] for parent in before] or [(None, None)]
            if found[revision] not in entries:
                yield revision
            new = [parent for parent in dict.fromkeys(before) if parent not in seen]
            seen.update(new)
            above += new
        level = above
