"""No file is dropped without a kept near duplicate, none is left beside one, at a fraction of the CPU of others.

Real files with planted near duplicates (folders as arguments, else the installed environment's), and the truth by
exact similarity of all pairs under one definition of shingles. The peers run with BigCode's settings for The Stack
(word 5-grams, 0.7, 250 permutations in 25 bands of 10), shingles made as their users make them, and connected
components as grouping; the first file of a component stays. Daft makes signatures only.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.planted_duplicates import environment_folders, planted_corpus
from stack_platform.dedup.leaders import near_duplicates
from stack_platform.dedup.minhash import permutations, sign
from stack_platform.dedup.shingles import reference_shingles

THRESHOLD, NUM_PERM, BANDS, ROWS = 0.7, 250, 25, 10
Neighbors = list[dict[int, float]]


def main() -> None:
    """Compare with the truth and with each peer that is installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=environment_folders())
    parser.add_argument("--files", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--text-dedup", metavar="PYTHON", help="a Python that has text-dedup 0.4.0, which needs its own"
    )
    options = parser.parse_args()
    corpus = planted_corpus(options.folders, options.files, options.seed)
    texts = corpus["content"].to_pylist()
    size = sum(len(text.encode()) for text in texts) / 1e6
    planted = sum(map(bool, corpus["kind"].to_pylist()))
    print(f"{len(texts):,} files, {size:.1f} MB, {planted:,} of them planted, seed {options.seed}")
    neighbors = exact_pairs(texts)
    oracle = greedy(neighbors)
    print(
        f"truth: {sum(map(len, neighbors)) // 2:,} pairs of {THRESHOLD} and more; the exact walk drops {len(oracle):,}"
    )
    near_duplicates(corpus.slice(0, 500))  # compiles
    ours, dropped = measure(lambda: our_drops(corpus))
    score("ours", ours, dropped, neighbors, size)
    print(f"  {1 - len(dropped ^ oracle) / max(len(oracle), 1):.4%} of the exact walk's answer")
    tell_recall(corpus, neighbors, dropped)
    functions = permutations()
    column = corpus["content"].combine_chunks()
    seconds, _ = measure(lambda: sign(column, functions))
    print(f"  signatures alone: {seconds:.2f} CPU s, {size / seconds:.0f} MB/s on one core")
    for name, install, peer in PEERS:
        try:
            theirs, found = measure(lambda peer=peer: peer(texts))
        except ImportError as error:
            print(f"{name}: {error}; {install}")
            continue
        if found is None:
            print(
                f"{name}: {theirs:.2f} CPU s for signatures only, {theirs / ours:.1f} times ours to the end"
            )
            continue
        score(name, theirs, found, neighbors, size)
        print(f"  {theirs / ours:.1f} times ours")
    if options.text_dedup:
        theirs, found = text_dedup(options.text_dedup, corpus)
        score("text-dedup, the whole process", theirs, found, neighbors, size)
        print(f"  {theirs / ours:.1f} times ours")
    else:
        print(
            "text-dedup: pip install text-dedup==0.4.0 into an environment of its own, then --text-dedup PYTHON"
        )
    sys.exit(
        0 if false_drops(dropped, neighbors) == 0 else "a file was dropped without a kept near duplicate"
    )


def measure(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of all threads and the result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def our_drops(corpus: pa.Table) -> set[int]:
    """Decide with the library, one thread."""
    rows = {name: row for row, name in enumerate(corpus["blob_id"].to_pylist())}
    return {rows[name] for name in near_duplicates(corpus)["blob_id"].to_pylist()}


def exact_pairs(texts: list[str]) -> Neighbors:
    """Return for each text all others of at least the threshold, by an inverted index of all shingles."""
    numbers: dict[int, int] = {}
    sets = []
    for text in texts:
        found = {numbers.setdefault(hash(shingle), len(numbers)) for shingle in reference_shingles(text)}
        sets.append(np.fromiter(found, np.int64, len(found)))
    sizes = np.array([len(one) for one in sets])
    every = np.concatenate(sets)
    order = np.argsort(every, kind="stable")
    owners = np.repeat(np.arange(len(sets)), sizes)[order]
    starts = np.searchsorted(every[order], np.arange(len(numbers) + 1))
    neighbors: Neighbors = []
    for text, own in enumerate(sets):
        shared = own[starts[own + 1] - starts[own] > 1]
        lists = [owners[starts[shingle] : starts[shingle + 1]] for shingle in shared.tolist()]
        counts = (
            np.bincount(np.concatenate(lists), minlength=len(sets)) if lists else np.zeros(len(sets), int)
        )
        similar = counts / np.maximum(sizes[text] + sizes - counts, 1)
        neighbors.append(
            {int(o): float(similar[o]) for o in np.flatnonzero(similar >= THRESHOLD) if o != text}
        )
    return neighbors


def greedy(neighbors: Neighbors) -> set[int]:
    """Return what the walk in order drops when it knows all similarities."""
    gone: set[int] = set()
    for text, near in enumerate(neighbors):
        if any(other < text and other not in gone for other in near):
            gone.add(text)
    return gone


def false_drops(dropped: set[int], neighbors: Neighbors) -> int:
    """Count the dropped files that no kept file resembles."""
    return sum(all(other in dropped for other in neighbors[text]) for text in dropped)


def score(name: str, seconds: float, dropped: set[int], neighbors: Neighbors, size: float) -> None:
    """Print one line about a way of deduplicating."""
    kept = set(range(len(neighbors))) - dropped
    residual = sum(any(other in kept for other in neighbors[text]) for text in kept)
    print(
        f"{name}: {seconds:.2f} CPU s, {size / seconds:.1f} MB/s; {len(dropped):,} dropped, "
        f"{false_drops(dropped, neighbors):,} of them falsely, {residual:,} near duplicates left"
    )


def tell_recall(corpus: pa.Table, neighbors: Neighbors, dropped: set[int]) -> None:
    """Print how many of the planted files that have a near duplicate are in a decided pair, by kind."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for text, kind in enumerate(corpus["kind"].to_pylist()):
        if kind and neighbors[text]:
            found[kind][0] += text in dropped or any(other in dropped for other in neighbors[text])
            found[kind][1] += 1
    print("  planted, found: " + ", ".join(f"{kind} {a}/{b}" for kind, (a, b) in sorted(found.items())))


def shingled(text: str) -> list[bytes]:
    """Make shingles as a user of a MinHash library does."""
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[i : i + 5]).encode() for i in range(len(words) - 4)]


def close(edges: Iterable[tuple[int, int]]) -> set[int]:
    """Return all but the first of each connected component."""
    parents: dict[int, int] = {}

    def root(one: int) -> int:
        while parents.setdefault(one, one) != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        return one

    for one, other in edges:
        a, b = sorted((root(one), root(other)))
        parents[b] = a
    return {one for one in parents if root(one) != one}


def datasketch_bulk(texts: list[str]) -> set[int]:
    """Sign in bulk with xxhash, group with MinHashLSH."""
    import xxhash
    from datasketch import MinHash, MinHashLSH

    shingles = [shingled(text) for text in texts]
    chosen = [text for text, own in enumerate(shingles) if own]
    hashes = MinHash.generator(
        (shingles[text] for text in chosen), num_perm=NUM_PERM, seed=1, hashfunc=xxhash.xxh32_intdigest
    )
    index = MinHashLSH(num_perm=NUM_PERM, params=(BANDS, ROWS))
    edges = []
    for text, minhash in zip(chosen, hashes, strict=True):
        edges += [(text, other) for other in index.query(minhash)]
        index.insert(text, minhash, check_duplication=False)
    return close(edges)


def rensa(texts: list[str]) -> set[int]:
    """Sign and group with rensa's RMinHash and its index."""
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(THRESHOLD, NUM_PERM, BANDS)
    edges = []
    for text, content in enumerate(texts):
        words = re.findall(r"\w+", content.lower())
        if len(words) < 5:
            continue
        minhash = RMinHash(NUM_PERM, 1)
        minhash.update([" ".join(words[i : i + 5]) for i in range(len(words) - 4)])
        edges += [(text, other) for other in index.query(minhash)]
        index.insert(text, minhash)
    return close(edges)


def bigcode(texts: list[str]) -> set[int]:
    """Do what BigCode's script for The Stack v2 does to a file, without Spark: own code after its description."""
    import xxhash

    prime, largest = (1 << 61) - 1, (1 << 32) - 1
    dice = np.random.RandomState(42)
    a = dice.randint(1, prime, NUM_PERM, dtype=np.uint64)
    b = dice.randint(0, prime, NUM_PERM, dtype=np.uint64)
    buckets: dict[tuple[int, bytes], int] = {}
    edges = []
    for text, content in enumerate(texts):
        words = re.split(r"\W", content.lower())
        grams = {" ".join(words[i : i + 5]).encode() for i in range(len(words) - 4)}
        if not grams:
            continue
        hashes = np.array([xxhash.xxh32_intdigest(gram) for gram in grams], np.uint64)
        permuted = (hashes[:, None] * a + b) % np.uint64(prime) & np.uint64(largest)
        minima = permuted.min(axis=0).astype(np.uint32)
        for band in range(BANDS):
            key = (band, minima[band * ROWS : band * ROWS + ROWS].byteswap().tobytes())
            edges.append((buckets.setdefault(key, text), text))
    return close(edges)


def daft_signatures(texts: list[str]) -> None:
    """Sign with Daft's native function."""
    import daft
    from daft.functions import minhash

    frame = daft.from_pydict({"text": texts})
    normal = daft.col("text").lower().regexp_replace(r"\W+", " ")
    frame.select(minhash(normal, num_hashes=NUM_PERM, ngram_size=5, hash_function="xxhash")).collect()


def text_dedup(python: str, corpus: pa.Table) -> tuple[float, set[int]]:
    """Run the command of text-dedup in its own environment; the CPU seconds are those of its process."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "corpus.parquet"), Path(folder, "kept")
        numbers = pa.array(range(corpus.num_rows))
        pq.write_table(corpus.select(["content"]).append_column("number", numbers), source)
        command = (
            f"{python} -m text_dedup.minhash --path parquet --data_files {source} --split train --output {out} "
            f"--cache_dir {folder}/cache --column content --ngram 5 --num_perm {NUM_PERM} --threshold {THRESHOLD} "
            f"--b {BANDS} --r {ROWS} --hash_func xxh3 --hash_bits 32 --num_proc 1"
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            command.split(), check=True, capture_output=True, cwd=folder, env=os.environ | {"PYTHONPATH": ""}
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        kept: set[int] = set()
        for part in out.glob("*.arrow"):
            with pa.memory_map(str(part)) as stored:
                kept |= set(pa.ipc.open_stream(stored).read_all()["number"].to_pylist())
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    short = {
        row for row, text in enumerate(corpus["content"].to_pylist()) if len(re.findall(r"\w+", text)) < 5
    }
    return seconds, set(range(corpus.num_rows)) - kept - short


PEERS: tuple[tuple[str, str, Callable[[list[str]], set[int] | None]], ...] = (
    ("datasketch in bulk with xxhash", "pip install xxhash", datasketch_bulk),
    ("rensa", "pip install rensa", rensa),
    ("BigCode's functions", "pip install xxhash", bigcode),
    ("Daft", "pip install daft", daft_signatures),
)

if __name__ == "__main__":
    main()
