"""A Software Heritage export is read in memory that grows far slower than the number of its directory entries.

The export is synthetic: one repository whose directories hold ten entries each, in the public layout (Parquet), among
ten times as many entries of other repositories. Figures: entries per CPU second of one pass over the table, entries
given, and the peak memory of the process above that before reading.
"""

import argparse
import hashlib
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stack_platform.archive.export.source import ExportConfig
from stack_platform.archive.hashing import hash_bytes
from stack_platform.archive.sources import Known, Reading
from stack_platform.archive.swhid import origin_id
from stack_platform.schemas import ARCHIVE

URL = "https://example.org/large"
FANOUT = 10
OTHERS = 10


def hexes(prefix: str, numbers: np.ndarray) -> list[str]:
    """Make ids."""
    return [hashlib.sha1(f"{prefix}{number}".encode()).hexdigest() for number in numbers.tolist()]


def write_table(root: Path, name: str, rows: list[dict[str, object]] | pa.Table) -> None:
    """Append a file to a table."""
    folder = root / "parquet" / name
    folder.mkdir(parents=True, exist_ok=True)
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=ARCHIVE[name])
    target = folder / f"{name}-{len(list(folder.iterdir())):04d}.parquet"
    pq.write_table(table, target, compression="zstd", row_group_size=1 << 17)


def entries_table(directories: list[str], kinds: list[str], targets: list[str]) -> pa.Table:
    """Give ten entries for each directory."""
    names = [b"%d.py" % place for place in range(FANOUT)] * len(directories)
    return pa.table(
        {
            "directory_id": pa.array([name for name in directories for _ in range(FANOUT)], pa.string()),
            "name": pa.array(names, pa.binary()),
            "type": pa.array(kinds, pa.string()),
            "target": pa.array(targets, pa.string()),
            "perms": pa.array([16384 if kind == "dir" else 33188 for kind in kinds], pa.int32()),
        }
    )


def write_export(root: Path, entries: int) -> None:
    """Write the export: a tree in which every directory holds up to five others, and noise."""
    count = entries // FANOUT
    directories = hexes("d", np.arange(count))
    contents = [hash_bytes(b"content %d\n" % number) for number in range(1000)]
    write_table(
        root,
        "content",
        [
            {**one._asdict(), "status": "visible", "data": b"content %d\n" % number}
            for number, one in enumerate(contents)
        ],
    )
    kinds, targets = [], []
    for number in range(count):
        for place in range(FANOUT):
            child = 5 * number + place + 1
            inner = place < 5 and child < count
            kinds.append("dir" if inner else "file")
            targets.append(directories[child] if inner else contents[(number * 7 + place) % 1000].sha1_git)
    write_table(root, "directory_entry", entries_table(directories, kinds, targets))
    for part in range(OTHERS):
        other = hexes(f"o{part}-", np.arange(count))
        write_table(root, "directory_entry", entries_table(other, ["file"] * len(targets), targets))
    revision, snapshot = "1" * 40, "2" * 40
    date = {"seconds": 1_600_000_000, "microseconds": 0}
    write_table(
        root, "revision", [{"id": revision, "directory": directories[0], "type": "git", "date": date}]
    )
    write_table(root, "release", [{"id": "3" * 40, "target": revision, "target_type": "revision"}])
    branch = {"snapshot_id": snapshot, "name": b"HEAD", "target": revision, "target_type": "revision"}
    write_table(root, "snapshot_branch", [branch])
    visit = {"origin": URL, "visit": 1, "date": date, "type": "git"}
    write_table(root, "origin_visit_status", [{**visit, "status": "full", "snapshot": snapshot}])
    write_table(root, "origin", [{"id": origin_id(URL), "url": URL}])


def main() -> None:
    """Write an export and read one repository out of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--memory-mib", type=int, default=512)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        writer = multiprocessing.get_context("spawn").Process(
            target=write_export, args=(Path(folder) / "export", given.entries)
        )
        writer.start()
        writer.join()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        config = ExportConfig(str(Path(folder) / "export"), memory_bytes=given.memory_mib << 20)
        counts: dict[str, int] = {}
        cpu, wall = time.process_time(), time.perf_counter()
        for table, batch in config.open().read(Known(), Reading(scratch=Path(folder) / "scratch")):
            counts[table] = counts.get(table, 0) + batch.num_rows
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scanned = given.entries * (OTHERS + 1)
    print(
        f"export_read: {counts['directory_entry']:,} of {scanned:,} entries given, {counts['content']:,} contents"
    )
    above = (peak - before) / 1024
    print(f"{cpu:.1f} CPU s, {wall:.1f} s; peak memory {above:.0f} MiB above the {before / 1024:.0f} before")


if __name__ == "__main__":
    main()
