"""Importing a git repository's whole history costs about what reading and hashing its objects with dulwich does.

The peer's loop does the least an importer in Python does (swh-loader-git is built on dulwich): read each object,
parse it, and hash contents with the four hashes of Software Heritage; once in the order in which dulwich lists a
store, and once in the order that ours found, which is kinder to it. Ours also finds the objects, checks every id and
makes record batches. All read the same objects, alternately, `ROUNDS` times; the best round counts.
Argument: a repository's folder; without it the one that holds this file, which is small.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stack_platform.archive.git.source import GitConfig
from stack_platform.archive.hashing import hash_bytes
from stack_platform.archive.sources import Known, Reading

ROUNDS = 3
COLUMNS = {"content": "sha1_git", "directory": "id", "revision": "id", "release": "id"}


def cpu_seconds() -> float:
    """Add up the CPU time of this process and of those that it waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Give wall and CPU seconds of some work, and its result."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    result = work()
    return time.perf_counter() - wall, cpu_seconds() - cpu, result


def import_ours(path: str, backend: str) -> list[str]:
    """Import with the platform; give the objects' ids in their order."""
    config = GitConfig((path,), backend=backend, hold_binary=True, max_content_bytes=1 << 40)
    ids: list[str] = []
    for table, batch in config.open().read(Known(), Reading()):
        if table in COLUMNS:
            ids.extend(batch[COLUMNS[table]].to_pylist())
    return ids


def import_theirs(path: str, ids: list[str]) -> tuple[set[str], int]:
    """Read, parse and hash with dulwich; give the ids that the bytes have, and their number."""
    from dulwich.objects import Blob, ShaFile, Tree
    from dulwich.repo import Repo

    found: set[str] = set()
    size = 0
    with Repo(path) as repo:
        for identifier in ids:
            kind, data = repo.object_store.get_raw(identifier.encode())
            size += len(data)
            if kind == Blob.type_num:
                found.add(hash_bytes(data).sha1_git)
                continue
            made = ShaFile.from_raw_string(kind, data)
            if isinstance(made, Tree):
                made.items()
            else:
                made.message  # noqa: B018  parses the object
            found.add(made.id.decode())
    return found, size


def main() -> None:
    """Import the repository with both, alternately."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", nargs="?", help="folder of a git repository")
    path = parser.parse_args().repository
    if path is None:
        path = str(Path(__file__).resolve().parents[1])
        print("git_import: no repository given; this one is read")
    best: dict[str, tuple[float, float]] = {}
    ids: list[str] = []
    size = 0
    for _ in range(ROUNDS):
        for name, backend in (("ours, git", "git"), ("ours, dulwich", "dulwich")):
            wall, cpu, result = timed(lambda backend=backend: import_ours(path, backend))
            assert not ids or set(result) == set(ids), f"{name} gave other objects"
            ids = result
            best[name] = min(best.get(name, (9e9, 9e9)), (wall, cpu))
        for name, order in (("dulwich, its order", sorted(ids)), ("dulwich, our order", ids)):
            wall, cpu, (found, size) = timed(lambda order=order: import_theirs(path, order))
            assert found == set(ids), "dulwich gave other ids"
            best[name] = min(best.get(name, (9e9, 9e9)), (wall, cpu))
    print(f"git_import: {len(ids):,} objects, {size / 1e6:,.0f} MB, ids of all equal")
    for name, (wall, cpu) in best.items():
        print(f"  {name:18} {size / 1e6 / wall:6.1f} MB/s  wall {wall:6.2f} s  CPU {cpu:6.2f} s")
    wall, cpu = best["ours, git"]
    for name in ("dulwich, its order", "dulwich, our order"):
        their_wall, their_cpu = best[name]
        print(f"  ours against {name}: wall ratio {their_wall / wall:.2f}, CPU ratio {their_cpu / cpu:.2f}")


if __name__ == "__main__":
    main()
