"""Every SWHID of a real git repository agrees: computed again from the rows, by swh-model, and by git itself.

Compared are all contents, directories, revisions and releases, and the snapshot. swh-model is GPL-3 and never
imported by the product; it may lie in a folder of its own (pip install --target FOLDER swh-model; PYTHONPATH=FOLDER).
Argument: a repository's folder; the claim needs one of 10,000 objects or more.
"""

import argparse
import hashlib
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from stack_platform.archive.git.source import GitConfig
from stack_platform.archive.hashing import hash_bytes
from stack_platform.archive.sources import Known, Reading
from stack_platform.archive.swhid import (
    Branch,
    Entry,
    Signature,
    directory_id,
    release_id,
    revision_id,
    snapshot_id,
)
from stack_platform.schemas import ARCHIVE

KINDS = {"content": "blob", "directory": "tree", "revision": "commit", "release": "tag"}


def signature(row: dict[str, Any], name: str, date: str, offset: str) -> Signature | None:
    """Rebuild who and when from a row."""
    if row[name] is None:
        return None
    seconds = None if row[date] is None else row[date]["seconds"]
    return Signature(row[name], seconds, 0, row[offset] or b"")


def revisions(tables: dict[str, pa.Table]) -> Iterator[tuple[dict[str, Any], tuple[Any, ...]]]:
    """Give rows of revisions with what `revision_id` takes."""
    parents, headers = defaultdict(list), defaultdict(list)
    for row in tables["revision_history"].to_pylist():
        parents[row["id"]].append(row["parent_id"])
    for row in tables["revision_extra_headers"].to_pylist():
        headers[row["id"]].append((row["key"], row["value"]))
    for row in tables["revision"].to_pylist():
        people = (
            signature(row, "author", "date", "date_raw_offset_bytes"),
            signature(row, "committer", "committer_date", "committer_date_raw_offset_bytes"),
        )
        yield row, (row["directory"], parents[row["id"]], *people, row["message"], headers[row["id"]])


def directories(tables: dict[str, pa.Table]) -> Iterator[tuple[dict[str, Any], list[Entry]]]:
    """Give rows of directories with their entries."""
    entries: dict[str, list[Entry]] = defaultdict(list)
    for batch in tables["directory_entry"].to_batches():
        for directory, *entry in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            entries[directory].append(Entry(*entry))
    for row in tables["directory"].to_pylist():
        yield row, entries[row["id"]]


def own_ids(tables: dict[str, pa.Table]) -> Iterator[tuple[str, str, str]]:
    """Compute every id but the contents' from the rows: (kind, stated, found)."""
    for row, parts in revisions(tables):
        yield "revision", row["id"], raw_id(row) or revision_id(*parts)
    for row, entries in directories(tables):
        yield "directory", row["id"], raw_id(row) or directory_id(entries)
    for row in tables["release"].to_pylist():
        author = signature(row, "author", "date", "date_raw_offset_bytes")
        parts = (row["name"], row["target"], row["target_type"], row["message"], author)
        yield "release", row["id"], raw_id(row) or release_id(*parts)
    branches = {
        row["name"]: None if row["target"] is None else Branch(row["target_type"], row["target"])
        for row in tables["snapshot_branch"].to_pylist()
    }
    yield "snapshot", tables["snapshot"]["id"][0].as_py(), snapshot_id(branches)


def raw_id(row: dict[str, Any]) -> str | None:
    """Hash the raw manifest where there is one."""
    return None if row["raw_manifest"] is None else hashlib.sha1(row["raw_manifest"]).hexdigest()


def peer_ids(tables: dict[str, pa.Table]) -> Iterator[tuple[str, str, str]]:
    """Compute the same ids with swh-model."""
    from swh.model import model
    from swh.model.git_objects import (
        directory_git_object,
        release_git_object,
        revision_git_object,
        snapshot_git_object,
    )
    from swh.model.hashutil import hash_to_bytes as raw

    def dated(who: Signature | None) -> Any:
        if who is None or who.seconds is None:
            return None
        return model.TimestampWithTimezone(model.Timestamp(who.seconds, who.microseconds), who.offset)

    def person(who: Signature | None) -> Any:
        return None if who is None else model.Person.from_fullname(who.fullname)

    def hashed(manifest: bytes) -> str:
        return hashlib.sha1(manifest).hexdigest()

    for row, (directory, parents, author, committer, message, headers) in revisions(tables):
        made = model.Revision(
            message=message,
            author=person(author),
            committer=person(committer),
            date=dated(author),
            committer_date=dated(committer),
            type=model.RevisionType.GIT,
            directory=raw(directory),
            synthetic=False,
            parents=tuple(map(raw, parents)),
            extra_headers=tuple(headers),
        )
        yield "revision", row["id"], raw_id(row) or hashed(revision_git_object(made))
    for row, entries in directories(tables):
        made = model.Directory(
            entries=tuple(model.DirectoryEntry(e.name, e.type, raw(e.target), e.perms) for e in entries)
        )
        yield "directory", row["id"], raw_id(row) or hashed(directory_git_object(made))
    for row in tables["release"].to_pylist():
        author = signature(row, "author", "date", "date_raw_offset_bytes")
        made = model.Release(
            name=row["name"],
            message=row["message"],
            target=raw(row["target"]),
            target_type=model.ReleaseTargetType(row["target_type"]),
            synthetic=False,
            author=person(author),
            date=dated(author),
        )
        yield "release", row["id"], raw_id(row) or hashed(release_git_object(made))
    branches = {
        row["name"]: None
        if row["target"] is None
        else model.SnapshotBranch(bytes.fromhex(row["target"]), model.SnapshotTargetType(row["target_type"]))
        for row in tables["snapshot_branch"].to_pylist()
    }
    made = model.Snapshot(branches=branches)
    yield "snapshot", tables["snapshot"]["id"][0].as_py(), hashed(snapshot_git_object(made))


Compare = Callable[[str, str, str, str], None]


def read(path: str, compare: Compare, peer: Any) -> tuple[dict[str, pa.Table], dict[str, list[str]]]:
    """Import the repository, comparing contents on the way; give the other tables, and the ids by table."""
    batches: dict[str, list[pa.RecordBatch]] = defaultdict(list)
    ids: dict[str, list[str]] = defaultdict(list)
    config = GitConfig((path,), authors="verbatim", hold_binary=True, max_content_bytes=1 << 40)
    for table, batch in config.open().read(Known(), Reading()):
        if table in KINDS:
            ids[table] += batch["sha1_git" if table == "content" else "id"].to_pylist()
        if table != "content":
            batches[table].append(batch)
            continue
        for stated, data in zip(batch["sha1_git"].to_pylist(), batch["data"].to_pylist(), strict=True):
            compare("our rows", table, stated, hash_bytes(data).sha1_git)
            if peer is not None:
                compare("swh-model", table, stated, peer.from_data(data).sha1_git.hex())
    tables = {name: pa.Table.from_batches(batches[name], schema) for name, schema in ARCHIVE.items()}
    return tables, ids


def ask_git(path: str, ids: dict[str, list[str]], compare: Compare) -> None:
    """Compare ids and kinds with what git says."""
    for table, kind in KINDS.items():
        sent = "\n".join(ids[table]).encode()
        command = ["git", "-C", path, "cat-file", "--batch-check=%(objectname) %(objecttype)"]
        answers = subprocess.run(command, input=sent, capture_output=True, check=True).stdout.decode()
        for stated, answer in zip(ids[table], answers.splitlines(), strict=True):
            compare("git", table, f"{stated} {kind}", answer)


def main() -> None:
    """Import the repository and compute every id again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", nargs="?", help="folder of a git repository")
    path = parser.parse_args().repository
    if path is None:
        path = str(Path(__file__).resolve().parents[1])
        print("git_swhids: no repository given; this one is read")
    try:
        from swh.model.model import Content
    except ImportError:
        Content = None
        print("git_swhids: swh-model is not installed; pip install -e '.[peers]'")
    compared: dict[str, Counter[str]] = defaultdict(Counter)
    wrong: list[str] = []

    def compare(who: str, kind: str, stated: str, found: str) -> None:
        compared[who][kind] += 1
        if stated != found:
            wrong.append(f"{kind} {stated}: {who} says {found}")

    tables, ids = read(path, compare, Content)
    for row in own_ids(tables):
        compare("our rows", *row)
    for row in peer_ids(tables) if Content is not None else ():
        compare("swh-model", *row)
    ask_git(path, ids, compare)
    for who, counts in compared.items():
        print(f"git_swhids: {who}: {counts.total():,} ids ({dict(counts)})")
    print(f"git_swhids: {len(wrong)} mismatches")
    sys.exit(f"mismatches: {wrong[:5]}" if wrong else 0)


if __name__ == "__main__":
    main()
