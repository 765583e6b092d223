"""Near-duplicate detection grows with its files, in bounded memory, uses a second core, and a snapshot costs its news.

Real files with planted near duplicates (folders as arguments, else the installed environment's), written once as
Parquet; each measurement is a process of its own that reads them from there. Reported are the CPU seconds of the
whole run with the decoding, the peak of resident memory above that of a process that has only compiled and holds
the names, 1 and 2 threads, and an update with 1 % new files against the run from the beginning, with the same
answer. With --plot, the growth is drawn to a file.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.planted_duplicates import environment_folders, planted_corpus
from stack_platform.dedup.index import build_index, near_duplicates_of, update_index
from stack_platform.dedup.signatures import Places

Row = dict[str, float]


def main() -> None:
    """Write the corpus, then measure in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=environment_folders())
    parser.add_argument("--files", type=int, nargs="+", default=[2500, 5000, 10_000])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="draw the growth to this file")
    parser.add_argument("--write", metavar="PARQUET", help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=3, metavar=("PARQUET", "FILES", "THREADS"), help=argparse.SUPPRESS)
    parser.add_argument("--update", nargs=2, metavar=("PARQUET", "FILES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if (
        options.write
    ):  # in a process of its own too: the peak of a process's memory starts at that of its parent
        corpus = planted_corpus(options.folders, max(options.files), options.seed).select(
            ["blob_id", "content"]
        )
        pq.write_table(corpus, options.write, row_group_size=512, compression="zstd")
        print(json.dumps({"files": corpus.num_rows}))
        return
    if options.measure:
        path, files, threads = options.measure
        print(json.dumps(measure(path, int(files), int(threads))))
        return
    if options.update:
        print(json.dumps(measure_update(options.update[0], int(options.update[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "corpus.parquet"))
        files = ["--files", str(max(options.files)), "--seed", str(options.seed)]
        count = int(child(*map(str, options.folders), "--write", path, *files)["files"])
        sizes = sorted({min(files, count) for files in options.files})
        report(path, sizes, options.plot)


def report(path: str, sizes: list[int], plot: Path | None) -> None:
    """Print all measurements."""
    rows = []
    for files in sizes:
        row = child("--measure", path, str(files), "1")
        rows.append(row)
        print(
            f"{files:,} files, {row['megabytes']:.0f} MB: {row['cpu']:.2f} CPU s, "
            f"{row['megabytes'] / row['cpu']:.0f} MB/s with decoding, "
            f"{row['megabytes'] / (row['cpu'] - row['decoding']):.0f} without; {row['dropped']:,} dropped; "
            f"memory {row['peak']:.0f} MB, {row['added']:.0f} of them added"
        )
    for one, other in pairwise(rows):
        growth, cost = other["megabytes"] / one["megabytes"], other["cpu"] / one["cpu"]
        print(f"  {growth:.2f} times the bytes, {cost:.2f} times the CPU")
    pairs = [[child("--measure", path, str(sizes[0]), threads) for threads in "12"] for _ in range(3)]
    one, two = (min(pair[place]["wall"] for pair in pairs) for place in (0, 1))
    print(f"2 threads: {one / two:.2f} times as fast ({one:.2f} s, {two:.2f} s, the best of three)")
    cpu, serial, decoding = (pairs[-1][1][name] for name in ("cpu", "serial", "decoding"))
    allowed = cpu / (serial + max(decoding, (cpu - serial) / 2))
    print(
        f"  {serial / cpu:.1%} of the CPU is in no thread's share: on two idle cores that allows {allowed:.2f} times"
    )
    update = child("--update", path, str(sizes[-1]))
    print(
        f"1 % new files, contents at hand: {update['update']:.3f} CPU s with the index read and written, against "
        f"{update['full']:.2f} from the beginning, {update['update'] / update['full']:.2%}; "
        f"{update['differ']:.0f} decisions differ from a run in that order"
    )
    print(
        f"  where files are scattered over row groups of 512 that are decoded whole: {update['decoded_update']:.3f} "
        f"against {update['decoded_full']:.2f}, {update['decoded_update'] / update['decoded_full']:.2%}"
    )
    if plot:
        draw(rows, plot)


def child(*arguments: str) -> Row:
    """Measure in a fresh process."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: Row = json.loads(done.stdout)
    return found


class Store:
    """A Parquet file's contents by id; counts the CPU seconds of decoding them and their bytes."""

    def __init__(self, path: str, files: int) -> None:
        self.path, self.decoding, self.bytes = path, 0.0, 0
        self.ids = pq.read_table(path, columns=["blob_id"])["blob_id"].slice(0, files).combine_chunks()
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        self.groups = [sum(groups[:group]) for group in range(len(groups) + 1)]

    def read(self, wanted: pa.Array | None) -> Iterator[pa.RecordBatch]:
        """Decode the row groups that hold a wanted file."""
        mask = None if wanted is None else pc.is_in(self.ids, wanted)
        with pq.ParquetFile(self.path) as file:
            for group, (start, stop) in enumerate(pairwise(self.groups)):
                stop = min(stop, len(self.ids))
                if stop <= start or (
                    mask is not None and not pc.any(mask.slice(start, stop - start)).as_py()
                ):
                    continue
                started = time.thread_time()
                rows = file.read_row_group(group, use_threads=False).slice(0, stop - start)
                if mask is not None:
                    rows = rows.filter(mask.slice(start, stop - start))
                self.decoding += time.thread_time() - started
                self.bytes += pc.sum(pc.binary_length(rows["content"])).as_py() or 0
                yield from rows.to_batches(max_chunksize=256)


def compile_all() -> None:
    """Compile every loop, so that it is in no figure."""
    texts = ["a b c d e f g h i j " * 3, "a b c d e f g h i j k", "ü é a b c d e f g", "x y", ""] * 300
    files = pa.table(
        {"blob_id": [str(number) for number in range(1500)], "content": pa.array(texts, pa.large_string())}
    )

    def read(_wanted: pa.Array | None) -> Iterator[pa.RecordBatch]:
        yield from files.to_batches()

    index = build_index(files["blob_id"].slice(0, 1000), read)
    update_index(index, files["blob_id"], read)


def measure(path: str, files: int, threads: int) -> Row:
    """Build the index of the first files."""
    store = Store(path, files)
    compile_all()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall, calling = time.process_time(), time.perf_counter(), time.thread_time()
    index = build_index(store.ids, lambda wanted: counted(store, wanted), threads=threads)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    calling = time.thread_time() - calling
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return {
        "megabytes": store.bytes / 1e6,
        "cpu": cpu,
        "wall": wall,
        "decoding": store.decoding,
        "serial": calling - store.decoding,
        "dropped": near_duplicates_of(index).num_rows,
        "peak": peak / unit,
        "added": (peak - before) / unit,
    }


def counted(store: Store, wanted: pa.Array | None) -> Iterator[pa.RecordBatch]:
    """Read, counting the bytes of the first reading only."""
    before = store.bytes
    yield from store.read(wanted)
    if wanted is not None:
        store.bytes = before


def measure_update(path: str, files: int) -> Row:
    """Add a hundredth of the files to an index of the others, stored as Parquet and read back."""
    store = Store(path, files)
    compile_all()
    contents = pa.Table.from_batches(store.read(None)).combine_chunks()
    order = np.random.default_rng(1).permutation(files)
    ids = store.ids.take(pa.array(order))
    places = Places(store.ids)

    def at_hand(wanted: pa.Array | None) -> Iterator[pa.RecordBatch]:
        rows = contents if wanted is None else contents.take(pa.array(places.find(wanted)))
        yield from rows.to_batches(max_chunksize=256)

    found: Row = {}
    for name, read in (("", at_hand), ("decoded_", store.read)):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "index.parquet")
            pq.write_table(
                build_index(ids.slice(0, files - files // 100), at_hand), place, compression="zstd"
            )
            started = time.process_time()
            updated = update_index(pq.read_table(place), ids, read)
            pq.write_table(updated, place, compression="zstd")
            found[f"{name}update"] = time.process_time() - started
        started = time.process_time()
        scratch = build_index(updated["blob_id"], read)
        found[f"{name}full"] = time.process_time() - started
    one, other = (near_duplicates_of(index).to_pylist() for index in (scratch, updated))
    found["differ"] = sum(a != b for a, b in zip(one, other, strict=True))
    return found


def draw(rows: list[Row], path: Path) -> None:
    """Draw CPU seconds and memory over megabytes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    sizes = [row["megabytes"] for row in rows]
    left.plot(sizes, [row["cpu"] for row in rows], "o-")
    left.set(xlabel="MB of source files", ylabel="CPU seconds, one thread", ylim=0, xlim=0)
    right.plot(sizes, [row["peak"] for row in rows], "o-")
    right.set(xlabel="MB of source files", ylabel="peak memory, MB", ylim=0, xlim=0)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
