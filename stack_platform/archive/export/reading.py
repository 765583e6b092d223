"""Read chosen origins out of an export, step by step, each step one pass over one table.

Visits, snapshots with their branches, releases and revisions of the heads, directories level by level, contents;
then the rows are given in an order that is always the same, visits and origins last.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from stack_platform.archive.export.contents import Bytes, Contents, LostBefore
from stack_platform.archive.export.tables import ExportTables, HexKeys, UrlKeys
from stack_platform.archive.export.visits import Graph, Root, Visit, choose_visits, date_of, find_roots
from stack_platform.archive.export.walk import NOT_AVAILABLE, Workspace, walk
from stack_platform.archive.ledger import Ledger
from stack_platform.archive.sources import Known, Reading, Rows
from stack_platform.archive.swhid import origin_id
from stack_platform.errors import SourceError
from stack_platform.schemas import ARCHIVE

_EMPTY_SNAPSHOT = "1a8893e6a86f444e8be8e7bda6cb34fb1735a00e"


class Chosen(NamedTuple):
    """What to read of an export."""

    name: str
    """what messages call the export"""
    origins: tuple[str, ...]
    """URLs and patterns; empty: all"""
    every: bool
    """all visits, not only the latest"""
    branches: tuple[str, ...]
    """in the order of preference"""
    bytes: Bytes


class ExportReading:
    """One reading of an export."""

    def __init__(
        self, chosen: Chosen, tables: ExportTables, workspace: Workspace, known: Known, reading: Reading
    ) -> None:
        """Prepare; the workspace is empty."""
        self._chosen, self._tables, self._space = chosen, tables, workspace
        self._known, self._reading = known, reading

    def read(self, ledger: Ledger) -> Iterator[Rows]:
        """Give the rows that the archive lacks."""
        before = LostBefore(self._known)
        visits = self._visits(bool(before.pending))
        if not visits:
            return
        roots = self._roots(sorted({visit.snapshot for visit in visits if visit.snapshot}))
        directories = [root.directory for root in roots.values() if root.directory]
        walk(self._space, self._tables, directories, self._reading.threads)
        contents = Contents(self._space, ledger, before, self._chosen.bytes, self._reading)
        for batch in contents.read(self._tables, self._known):
            yield "content", batch
        yield from self._objects()
        yield from self._ends(visits, roots)

    def _visits(self, pending: bool) -> list[Visit]:
        keys = UrlKeys(self._chosen.origins)
        rows = [
            row
            for batch in self._tables.lookup("origin_visit_status", "origin", keys, self._reading.threads)
            for row in batch.to_pylist()
        ]
        unseen = keys.exact - {row["origin"] for row in rows}
        if not rows and not unseen:
            raise SourceError(
                f"no origin of {self._chosen.name} matches {', '.join(self._chosen.origins) or 'anything'}; "
                "origins are whole URLs, as in https://github.com/owner/name"
            )
        today = date_of(self._reading.visit_date)
        return choose_visits(rows, unseen, self._known, self._chosen.every, pending, today)

    def _take(self, table: str, key: str, ids: Sequence[str]) -> None:
        self._space.take(self._tables, table, key, HexKeys(ids), self._reading.threads)

    def _roots(self, snapshots: Sequence[str]) -> dict[str, Root]:
        """Look up what lies between snapshots and root directories."""
        space = self._space
        if not snapshots:
            return {}
        self._take("snapshot_branch", "snapshot_id", snapshots)

        def branches(wanted: Sequence[tuple[str, bytes]]) -> dict[tuple[str, bytes], tuple[Any, Any]]:
            columns = zip(*sorted(wanted), strict=True)
            keys = [
                pa.array(column, kind)
                for column, kind in zip(columns, (pa.string(), pa.binary()), strict=True)
            ]
            space.database.register("wanted", pa.Table.from_arrays(keys, ["snapshot_id", "name"]))
            rows = space.rows(
                "SELECT snapshot_id, name, target, target_type FROM snapshot_branch "
                "SEMI JOIN wanted USING (snapshot_id, name)"
            )
            space.database.unregister("wanted")
            return {(row[0], row[1]): (row[2], row[3]) for row in rows}

        def releases(ids: Sequence[str]) -> dict[str, tuple[Any, Any]]:
            self._take("release", "id", ids)
            return {
                row[0]: (row[1], row[2]) for row in space.rows("SELECT id, target, target_type FROM release")
            }

        def revisions(ids: Sequence[str]) -> dict[str, str]:
            if ids:
                for table in ("revision", "revision_history", "revision_extra_headers"):
                    self._take(table, "id", ids)
            return dict(space.rows("SELECT id, directory FROM revision"))

        names = [os.fsencode(name) for name in self._chosen.branches]
        roots = find_roots(snapshots, names, Graph(branches, releases, revisions))
        held = {row[0] for row in space.rows("SELECT DISTINCT snapshot_id FROM snapshot_branch")}
        for snapshot in snapshots:
            if snapshot not in held and snapshot != _EMPTY_SNAPSHOT:
                roots[snapshot] = Root(None, f"the snapshot {snapshot}")
        return roots

    def _objects(self) -> Iterator[Rows]:
        """Give the rows of the graph between contents and visits."""
        if "directory" in self._tables.files:
            found = self._space.ids("SELECT DISTINCT directory_id FROM directory_entry")
            self._space.take(self._tables, "directory", "id", HexKeys(found), self._reading.threads)
        self._space.database.execute(
            "INSERT INTO directory BY NAME SELECT DISTINCT directory_id AS id FROM directory_entry "
            "WHERE directory_id NOT IN (SELECT id FROM directory)"
        )
        for table, key, of in (
            ("directory_entry", "directory_id", "directory"),
            ("directory", "id", "directory"),
            ("revision_extra_headers", "id", "revision"),
            ("revision_history", "id", "revision"),
            ("revision", "id", "revision"),
            ("release", "id", "release"),
            ("snapshot_branch", "snapshot_id", "snapshot"),
        ):
            yield from self._lacking(table, key, of)

    def _lacking(self, table: str, key: str, of: str) -> Iterator[Rows]:
        """Give the rows of a table whose object the archive lacks, in an order that is always the same."""
        known, schema = self._known.ids(of), ARCHIVE[table]
        columns = ", ".join([key, *(name for name in schema.names if name != key)])
        for batch in self._space.batches(f"SELECT DISTINCT * FROM {table} ORDER BY {columns}"):  # noqa: S608
            ids = batch.column(batch.schema.get_field_index(key))
            lacking = pa.array(known.lacks(sorted(set(ids.to_pylist()))), pa.string())
            kept = batch.filter(pc.is_in(ids, value_set=lacking))
            if kept.num_rows:
                yield (
                    table,
                    pa.RecordBatch.from_arrays(
                        [kept.column(name).cast(schema.field(name).type) for name in schema.names],
                        schema=schema,
                    ),
                )

    def _ends(self, visits: Sequence[Visit], roots: dict[str, Root]) -> Iterator[Rows]:
        """Give snapshots, what is lost, visits and origins."""
        snapshots = sorted({visit.snapshot for visit in visits if visit.snapshot})
        there = [name for name in snapshots if not (roots[name].lacking or "").startswith("the snapshot")]
        yield from _batch("snapshot", [{"id": name} for name in self._known.ids("snapshot").lacks(there)])
        yield from _batch("skipped_content", self._skipped(visits, roots))
        touched = self._space.touched()
        stated: list[dict[str, Any]] = []
        for visit in visits:
            root = roots.get(visit.snapshot or "", Root(None, None))
            harmed = root.lacking is not None or root.directory in touched
            status = "partial" if visit.status == "full" and harmed else visit.status
            if not (visit.again and status == "partial"):
                stated.append(_visit_row(visit) | {"status": status, "snapshot": visit.snapshot})
        yield from _batch("origin_visit", self._begun([visit for visit in visits if not visit.again]))
        yield from _batch("origin_visit_status", stated)
        urls = sorted({visit.origin for visit in visits} - self._known.origins)
        yield from _batch("origin", [{"id": origin_id(url), "url": url} for url in urls])

    def _begun(self, visits: Sequence[Visit]) -> list[dict[str, Any]]:
        """Give rows of origin_visit: the date of the visit is not that of its status."""
        keys = UrlKeys(sorted({visit.origin for visit in visits}))
        dates = {
            (row["origin"], row["visit"]): row["date"]
            for batch in self._tables.lookup("origin_visit", "origin", keys, self._reading.threads)
            for row in batch.to_pylist()
        }
        rows = [_visit_row(visit) for visit in visits]
        for visit, row in zip(visits, rows, strict=True):
            if not visit.renumbered:
                row["date"] = dates.get((visit.origin, visit.number), row["date"])
        return rows

    def _skipped(self, visits: Sequence[Visit], roots: dict[str, Root]) -> list[dict[str, Any]]:
        first: dict[str, Visit] = {}
        rows: list[dict[str, Any]] = []
        for visit in visits:
            root = roots.get(visit.snapshot or "", Root(None, None))
            if root.directory is not None:
                first.setdefault(root.directory, visit)
            if root.lacking is not None and not visit.again:
                reason = f"{NOT_AVAILABLE}the export lacks {root.lacking}"
                rows.append(
                    {"status": "absent", "reason": reason, "origin": visit.origin, "visit": visit.number}
                )
        hashes = self._hashes()
        for target, kind, reason, root_id, path in self._space.named():
            visit = first[root_id]
            if kind == "dir" and visit.again:
                continue
            row = {
                "status": "absent",
                "reason": reason,
                "origin": visit.origin,
                "path": path,
                "visit": visit.number,
            }
            if kind == "file":
                row |= hashes.get(target, {"sha1_git": target})
            rows.append(row)
        return rows

    def _hashes(self) -> dict[str, dict[str, Any]]:
        """Give what the export says of contents that are lost."""
        names = ("sha1_git", "sha1", "sha256", "blake2s256", "length")
        columns = ", ".join(names)
        rows = self._space.rows(
            f"SELECT {columns} FROM (SELECT {columns} FROM content UNION ALL SELECT {columns} FROM skipped_content) "  # noqa: S608
            "WHERE sha1_git IN (SELECT target FROM lost WHERE given) ORDER BY ALL DESC"
        )
        return {row[0]: dict(zip(names, row, strict=True)) for row in rows}


def _visit_row(visit: Visit) -> dict[str, Any]:
    date = None if visit.date is None else {"seconds": visit.date[0], "microseconds": visit.date[1]}
    return {"origin": visit.origin, "visit": visit.number, "date": date, "type": visit.type}


def _batch(table: str, rows: list[dict[str, Any]]) -> Iterator[Rows]:
    if rows:
        yield table, pa.RecordBatch.from_pylist(rows, schema=ARCHIVE[table])
