"""Write small exports as Software Heritage lays them out, in both formats, with ids that are right."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyorc
from pyorc.enums import TypeKind

from stack_platform.archive.hashing import hash_bytes
from stack_platform.archive.swhid import (
    Branch,
    Entry,
    Signature,
    directory_id,
    origin_id,
    release_id,
    revision_id,
    snapshot_id,
)
from stack_platform.schemas import ARCHIVE, DATE

Date = tuple[int, int]  # seconds and microseconds
WHO = bytes(range(32))

_OURS = {"skipped_content": ("origin", "path", "visit")}
_ORC = {
    pa.string(): "string",
    pa.binary(): "binary",
    pa.large_binary(): "binary",
    pa.int64(): "bigint",
    pa.int32(): "int",
    pa.int16(): "smallint",
    DATE: "timestamp",
}


class _Raw:
    @staticmethod
    def from_orc(seconds: int, nanoseconds: int, timezone: object) -> object:
        raise NotImplementedError

    @staticmethod
    def to_orc(value: dict[str, int], timezone: object) -> Date:  # noqa: ARG004  pyorc's form
        return value["seconds"], value["microseconds"] * 1000


class ExportMaker:
    """Objects of a small archive, and the files of its export."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[Any, dict[str, Any]]] = {table: {} for table in ARCHIVE}
        self.data: dict[str, bytes] = {}

    def _add(self, table: str, key: object, **values: object) -> None:
        self.rows[table][key] = {name: values.get(name) for name in ARCHIVE[table].names}

    def content(self, data: bytes) -> str:
        hashes = hash_bytes(data)
        self._add("content", hashes.sha1_git, **hashes._asdict(), status="visible", data=data)
        self.data[hashes.sha1] = data
        return hashes.sha1_git

    def directory(self, tree: dict[bytes, Any]) -> str:
        """Add a tree of contents (bytes) and directories (dict)."""
        entries = []
        for name, value in tree.items():
            if isinstance(value, dict):
                entries.append(Entry(name, "dir", self.directory(value), 0o40000))
            else:
                entries.append(Entry(name, "file", self.content(value), 0o100644))
        identifier = directory_id(entries)
        self._add("directory", identifier, id=identifier)
        for entry in entries:
            self._add("directory_entry", (identifier, entry.name), directory_id=identifier, **entry._asdict())
        return identifier

    def revision(self, directory: str, date: Date = (1_600_000_000, 0), parents: tuple[str, ...] = ()) -> str:
        signature = Signature(WHO, *date)
        identifier = revision_id(directory, parents, signature, signature, b"message")
        stated = {"seconds": date[0], "microseconds": date[1]}
        self._add(
            "revision",
            identifier,
            id=identifier,
            message=b"message",
            author=WHO,
            date=stated,
            date_offset=0,
            date_raw_offset_bytes=b"+0000",
            committer=WHO,
            committer_date=stated,
            committer_offset=0,
            committer_date_raw_offset_bytes=b"+0000",
            directory=directory,
            type="git",
        )
        for rank, parent in enumerate(parents):
            self._add(
                "revision_history", (identifier, rank), id=identifier, parent_id=parent, parent_rank=rank
            )
        return identifier

    def release(
        self, target: str, target_type: str = "revision", date: Date | None = (1_600_000_000, 5)
    ) -> str:
        author = None if date is None else Signature(WHO, *date)
        identifier = release_id(b"v1", target, target_type, b"release", author)
        stated = None if date is None else {"seconds": date[0], "microseconds": date[1]}
        self._add(
            "release",
            identifier,
            id=identifier,
            name=b"v1",
            message=b"release",
            target=target,
            target_type=target_type,
            author=WHO,
            date=stated,
        )
        return identifier

    def snapshot(self, branches: dict[bytes, tuple[str, str]]) -> str:
        """Add a snapshot of branches (type, target); an alias names the other branch plainly."""
        hexed = {
            name: Branch(kind, target.encode().hex() if kind == "alias" else target)
            for name, (kind, target) in branches.items()
        }
        identifier = snapshot_id(hexed)
        self._add("snapshot", identifier, id=identifier)
        for name, (kind, target) in branches.items():
            self._add(
                "snapshot_branch",
                (identifier, name),
                snapshot_id=identifier,
                name=name,
                target=target,
                target_type=kind,
            )
        return identifier

    def visit(
        self,
        origin: str,
        number: int,
        snapshot: str | None,
        date: Date = (1_650_000_000, 7),
        status: str = "full",
    ) -> None:
        stated = {"seconds": date[0], "microseconds": date[1]}
        self._add("origin", origin, id=origin_id(origin), url=origin)
        visit = {"origin": origin, "visit": number, "date": stated, "type": "git"}
        self._add("origin_visit", (origin, number), **visit)
        self._add("origin_visit_status", (origin, number, status), **visit, status=status, snapshot=snapshot)

    def repository(
        self, origin: str, tree: dict[bytes, Any], number: int = 1, date: Date = (1_650_000_000, 7)
    ) -> str:
        """Add an origin whose HEAD is an alias of main, a revision with that tree."""
        revision = self.revision(self.directory(tree))
        snapshot = self.snapshot(
            {b"HEAD": ("alias", "refs/heads/main"), b"refs/heads/main": ("revision", revision)}
        )
        self.visit(origin, number, snapshot, date)
        return snapshot

    def remove(self, table: str, **values: object) -> None:
        """Take rows out of a table."""
        kept = {
            key: row
            for key, row in self.rows[table].items()
            if not all(row[name] == value for name, value in values.items())
        }
        self.rows[table] = kept

    def write(
        self, root: Path, form: str = "parquet", *, with_data: bool = False, nested: bool = True
    ) -> Path:
        """Write all tables, each into two files where it has two rows."""
        base = root / form if nested else root
        for table, rows in self.rows.items():
            dropped = _OURS.get(table, ())
            schema = pa.schema([field for field in ARCHIVE[table] if field.name not in dropped])
            listed = [{name: row[name] for name in schema.names} for row in rows.values()]
            if table == "content" and not with_data:
                listed = [row | {"data": None} for row in listed]
            (base / table).mkdir(parents=True, exist_ok=True)
            for part, some in enumerate((listed[::2], listed[1::2])):
                path = base / table / f"{table}-{part:04d}.{form}"
                if form == "parquet":
                    _write_parquet(path, table, schema, some)
                else:
                    _write_orc(path, schema, some)
        return root

    def write_contents(self, folder: Path) -> Path:
        """Write the objects of all contents, named by sha1 and compressed."""
        folder.mkdir(parents=True, exist_ok=True)
        for sha1, data in self.data.items():
            (folder / sha1).write_bytes(gzip.compress(data, mtime=0))
        return folder


def _write_parquet(path: Path, table: str, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    """Dates of visits are timestamps, those of revisions and releases structs, as in the public export."""
    if table.startswith("origin_visit"):
        timestamps = [
            field.with_type(pa.timestamp("us")) if field.type == DATE else field for field in schema
        ]
        schema = pa.schema(timestamps)
        rows = [
            row | {"date": row["date"]["seconds"] * 1_000_000 + row["date"]["microseconds"]} for row in rows
        ]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd", row_group_size=3)


def _write_orc(path: Path, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    columns = ",".join(f"{field.name}:{_ORC[field.type]}" for field in schema)
    with path.open("wb") as stream:
        writer = pyorc.Writer(
            stream,
            f"struct<{columns}>",
            converters={TypeKind.TIMESTAMP: _Raw},
            compression=pyorc.CompressionKind.ZSTD,
        )
        for row in rows:
            writer.write(tuple(row.values()))
        writer.close()
