"""Every SWHID of the installed environment agrees with swh-model, an implementation of others.

swh-model is GPL-3 and never imported by the product. Compared are contents (held and read again from disk),
directories, releases and snapshots; the CPU time of both is of hashing the same bytes.
"""

import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa

from stack_platform.archive.distributions import DistributionsConfig
from stack_platform.archive.hashing import hash_bytes
from stack_platform.archive.sources import Known, Reading


def main() -> None:
    """Build the graph of this environment and compare each object."""
    try:
        from swh.model import model
        from swh.model.hashutil import hash_to_bytes
    except ImportError:
        print("swhids: swh-model is not installed; pip install -e '.[peers]'")
        return
    tables: dict[str, list[pa.RecordBatch]] = defaultdict(list)
    for name, batch in DistributionsConfig().open().read(Known(), Reading()):
        tables[name].append(batch)
    compared: Counter[str] = Counter()
    wrong: list[str] = []

    def compare(kind: str, stated: str, found: bytes) -> None:
        compared[kind] += 1
        if bytes.fromhex(stated) != found:
            wrong.append(f"{kind} {stated}")

    ours = theirs = 0.0
    for batch in tables["content"]:
        for row in batch.select(["sha1_git", "data"]).to_pylist():
            if row["data"] is None:
                continue
            started = time.process_time()
            peer = model.Content.from_data(row["data"])
            theirs += time.process_time() - started
            started = time.process_time()
            own = hash_bytes(row["data"])
            ours += time.process_time() - started
            compare("content", row["sha1_git"], peer.sha1_git)
            compare("content", own.sha1_git, peer.sha1_git)
    for directory, entries in _grouped(tables["directory_entry"], "directory_id").items():
        peers = [
            model.DirectoryEntry(
                name=e["name"], type=e["type"], target=hash_to_bytes(e["target"]), perms=e["perms"]
            )
            for e in entries
        ]
        compare("directory", directory, model.Directory(entries=tuple(peers)).id)
    for row in pa.Table.from_batches(tables["release"]).to_pylist():
        peer = model.Release(
            name=row["name"],
            message=row["message"],
            target=hash_to_bytes(row["target"]),
            target_type=model.ReleaseTargetType(row["target_type"]),
            synthetic=True,
        )
        compare("release", row["id"], peer.id)
    for snapshot, branches in _grouped(tables["snapshot_branch"], "snapshot_id").items():
        made = {
            b["name"]: model.SnapshotBranch(
                target=bytes.fromhex(b["target"]), target_type=model.SnapshotTargetType(b["target_type"])
            )
            for b in branches
        }
        compare("snapshot", snapshot, model.Snapshot(branches=made).id)
    print(f"swhids: {compared.total():,} comparisons ({dict(compared)}), {len(wrong)} mismatches")
    print(
        f"hashing the same contents: {ours:.1f} CPU s ours, {theirs:.1f} CPU s swh-model, ratio {theirs / ours:.2f}"
    )
    sys.exit(f"mismatches: {wrong[:5]}" if wrong else 0)


def _grouped(batches: list[pa.RecordBatch], key: str) -> dict[str, list[dict[str, object]]]:
    groups: dict[str, list[dict[str, object]]] = defaultdict(list)
    for row in pa.Table.from_batches(batches).to_pylist():
        groups[row[key]].append(row)
    return groups


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
