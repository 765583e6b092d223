"""Walk the directories of an export level by level, in memory that does not grow with the export.

One lookup in the table of entries per level, for all directories of that level that no level before had. What is
found goes into a database that spills to disk (DuckDB), with one path per directory, so that what is missing can be
named, and with the entries, so that the roots above it are known.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import duckdb
import pyarrow as pa

from stack_platform.archive.export.tables import ExportTables, HexKeys, Keys
from stack_platform.errors import SourceError
from stack_platform.schemas import ARCHIVE

NOT_AVAILABLE = "not available: "  # how reasons begin that stay
NO_BYTES = "no bytes: "  # and those that other settings may help
EMPTY_DIRECTORY = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

_MAX_DEPTH = 512
_ROWS = 65_536

_FOUND = (
    *("snapshot_branch", "release", "revision", "revision_history", "revision_extra_headers"),
    *("directory", "directory_entry", "content", "skipped_content"),
)

_SETUP = """
CREATE TABLE place (directory VARCHAR, root VARCHAR, path BLOB);
CREATE TABLE lost (target VARCHAR, kind VARCHAR, reason VARCHAR, given BOOLEAN, harmful BOOLEAN);
CREATE TABLE file (sha1_git VARCHAR, extension BLOB);
"""

_NEXT = """
CREATE OR REPLACE TABLE following AS
SELECT l.target AS directory, p.root, if(p.path = ''::BLOB, l.name, p.path || '/'::BLOB || l.name) AS path
FROM level AS l JOIN place AS p ON p.directory = l.directory_id
WHERE l.type = 'dir' AND NOT EXISTS (SELECT 1 FROM place AS q WHERE q.directory = l.target)
QUALIFY row_number() OVER (PARTITION BY l.target ORDER BY p.root, 3) = 1
"""

_TOUCHED = """
WITH RECURSIVE above(directory) AS (
    SELECT e.directory_id FROM directory_entry AS e
        JOIN lost AS l ON l.harmful AND l.target = e.target AND l.kind = e.type
    UNION
    SELECT target FROM lost WHERE kind = 'dir'
    UNION
    SELECT e.directory_id FROM directory_entry AS e JOIN above AS a ON e.type = 'dir' AND e.target = a.directory)
SELECT DISTINCT directory FROM above
"""

_NAMED = """
WITH named AS (
    SELECT l.target, l.kind, l.reason, p.root, if(p.path = ''::BLOB, e.name, p.path || '/'::BLOB || e.name) AS path
    FROM lost AS l JOIN directory_entry AS e ON e.target = l.target AND e.type = l.kind
        JOIN place AS p ON p.directory = e.directory_id
    WHERE l.given
    UNION ALL
    SELECT l.target, l.kind, l.reason, l.target, ''::BLOB FROM lost AS l
        JOIN place AS p ON p.directory = l.target AND p.root = l.target
    WHERE l.given AND l.kind = 'dir')
SELECT target, kind, reason, root, path FROM named
QUALIFY row_number() OVER (PARTITION BY target, kind ORDER BY root, path) = 1
ORDER BY target, kind
"""


class Lost(NamedTuple):
    """An object that the archive does not get."""

    target: str
    reason: str
    given: bool = True
    """whether the archive is to be told: it was not yet"""
    harmful: bool = True
    """whether a visit that needs it is partial"""


class Workspace:
    """What was found so far; a context manager."""

    def __init__(self, folder: Path, threads: int, memory_bytes: int) -> None:
        """Start with nothing; what exceeds `memory_bytes` goes to files in the folder."""
        config: dict[str, Any] = {
            "threads": threads,
            "memory_limit": f"{memory_bytes}B",
            "temp_directory": str(folder),
        }
        self.database = duckdb.connect(config=config)  # in memory, and beyond the limit in temporary files
        self.database.execute(_SETUP)
        for table in _FOUND:
            self.create(table, ARCHIVE[table])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()

    def create(self, table: str, schema: pa.Schema) -> None:
        """Make an empty table."""
        self.database.register("given", schema.empty_table())
        self.database.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM given")  # noqa: S608  names are ours
        self.database.unregister("given")

    def fill(self, table: str, batches: Iterable[pa.RecordBatch]) -> None:
        """Append rows, by the names of their columns."""
        group: list[pa.RecordBatch] = []
        rows = 0
        for batch in batches:
            group.append(batch)
            rows += batch.num_rows
            if rows >= _ROWS:
                self._insert(table, pa.Table.from_batches(group))
                group, rows = [], 0
        if group:
            self._insert(table, pa.Table.from_batches(group))

    def _insert(self, table: str, given: pa.Table) -> None:
        self.database.register("given", given)
        self.database.execute(f"INSERT INTO {table} BY NAME SELECT * FROM given")  # noqa: S608  names are ours
        self.database.unregister("given")

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Give the result of a query that is small."""
        return self.database.execute(query, list(parameters)).fetchall()

    def ids(self, query: str) -> pa.ChunkedArray:
        """Give the first column of a query."""
        return self.database.sql(query).to_arrow_table().column(0)

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Give the result of a query piece by piece; other queries may run meanwhile."""
        with self.database.cursor() as cursor:
            yield from cursor.sql(query).to_arrow_reader(_ROWS)

    def take(self, tables: ExportTables, table: str, key: str, keys: Keys, threads: int) -> None:
        """Look rows of the export up and append those that are not there yet."""
        self.fill(table, tables.lookup(table, key, keys, threads))

    def lose(self, kind: str, lost: Sequence[Lost]) -> None:
        """Note objects (kind: file, dir) that the archive does not get."""
        rows = [{"kind": kind, **one._asdict()} for one in lost]
        if rows:
            self.fill("lost", [pa.RecordBatch.from_pylist(rows)])

    def touched(self) -> frozenset[str]:
        """Give the directories above anything that is lost."""
        return frozenset(row[0] for row in self.rows(_TOUCHED))

    def named(self) -> list[tuple[str, str, str, str, bytes]]:
        """Give (target, kind, reason, root, path) of what is lost, one path each."""
        return [(row[0], row[1], row[2], row[3], row[4]) for row in self.rows(_NAMED)]


def walk(workspace: Workspace, tables: ExportTables, roots: Sequence[str], threads: int) -> None:
    """Find all entries below the roots; directories that the export lacks are noted as lost.

    Raises:
        SourceError: directories nest more than 512 levels deep.

    """
    frontier = sorted(set(roots))
    workspace.fill("place", [_places(frontier)])
    for _ in range(_MAX_DEPTH):
        if not frontier:
            return
        workspace.create("level", ARCHIVE["directory_entry"])
        keys = HexKeys(frontier)
        workspace.fill("level", tables.lookup("directory_entry", "directory_id", keys, threads))
        workspace.database.execute("INSERT INTO directory_entry SELECT DISTINCT * FROM level")
        found = {row[0] for row in workspace.rows("SELECT DISTINCT directory_id FROM level")}
        missing = [name for name in frontier if name not in found and name != EMPTY_DIRECTORY]
        workspace.lose(
            "dir", [Lost(name, f"{NOT_AVAILABLE}the export lacks the directory {name}") for name in missing]
        )
        workspace.database.execute(_NEXT)
        workspace.database.execute("INSERT INTO place SELECT * FROM following")
        frontier = [row[0] for row in workspace.rows("SELECT directory FROM following ORDER BY 1")]
    raise SourceError(f"directories nest more than {_MAX_DEPTH} levels deep; the export is damaged")


def _places(roots: Sequence[str]) -> pa.RecordBatch:
    names = pa.array(roots, pa.string())
    paths = pa.array([b""] * len(roots), pa.binary())
    return pa.RecordBatch.from_arrays([names, names, paths], ["directory", "root", "path"])
