"""Large clusters and odd files cost little: templates just below the threshold, copies by the ten thousand, no text.

All files are made from a seed. For the clusters whose files are all a little less similar than the threshold, the
cost of comparing every pair is shown beside, from a tenth of the files.
"""

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

from stack_platform.dedup.leaders import near_duplicates
from stack_platform.dedup.shingles import shingle_sets


def main() -> None:
    """Run each case at two sizes, or once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    run(templates(1500, 100, 60))  # compiles
    for name, make in (
        ("a template and 25 words of their own", lambda count: templates(count, 100, 25)),
        ("a template and 20 to 40 words of their own", lambda count: templates(count, 100, 0)),
        ("400 words, one in 25 replaced", edits),
        ("the same text", lambda count: ["def f(x): return x plus one or two"] * count),
    ):
        small, large = (run(make(count)) for count in (options.files // 2, options.files))
        print(
            f"{options.files:,} files of {name}: {large[0]:.2f} CPU s ({small[0]:.2f} for half), {large[1]:,} dropped"
        )
    seconds = all_pairs(edits(options.files // 10)) * 100
    print(f"  comparing all pairs of {options.files:,} files of 400 words: about {seconds:.0f} CPU s")
    for name, texts in (
        ("empty files", [b""] * options.files),
        ("one token ten million times", [b"x " * 10_000_000, b"x x x x x"]),
        ("binary files", [random.Random(place).randbytes(2000) for place in range(options.files)]),
    ):
        seconds, dropped = run(texts)
        print(f"{len(texts):,} {name}: {seconds:.2f} CPU s, {dropped:,} dropped")


def run(contents: list[str] | list[bytes]) -> tuple[float, int]:
    """Return CPU seconds and how many files leave."""
    kind = pa.large_binary() if isinstance(contents[0], bytes) else pa.large_string()
    ids = [f"{place:040x}" for place in range(len(contents))]
    files = pa.table({"blob_id": ids, "content": pa.array(contents, kind)})
    started = time.process_time()
    found = near_duplicates(files)
    return time.process_time() - started, found.num_rows


def templates(count: int, shared: int, own: int) -> list[str]:
    """Make files of shared words and some of their own, 20 to 40 for `own` of 0."""
    dice = random.Random(1)
    common = " ".join(f"s{place}" for place in range(shared))
    return [
        f"{common} " + " ".join(f"u{file}x{place}" for place in range(own or dice.randrange(20, 40)))
        for file in range(count)
    ]


def edits(count: int) -> list[str]:
    """Make files that are one text with every 25th word replaced on average."""
    dice = random.Random(2)
    words = [f"w{place}" for place in range(400)]
    return [
        " ".join(w if dice.random() > 0.04 else f"v{dice.randrange(10**9)}" for w in words)
        for _ in range(count)
    ]


def all_pairs(texts: list[str]) -> float:
    """Return the CPU seconds of comparing the exact sets of all pairs in one compiled loop."""
    import numba

    from stack_platform.dedup.matching import similarity

    @numba.njit
    def compare(hashes: Any, offsets: Any) -> int:
        found = 0
        for one in range(offsets.size - 1):
            for other in range(one):
                left, right = (
                    hashes[offsets[one] : offsets[one + 1]],
                    hashes[offsets[other] : offsets[other + 1]],
                )
                found += similarity(left, right, 0.7) >= 0
        return found

    (sets,) = shingle_sets(pa.array(texts, pa.large_string()))
    compare(sets.hashes, sets.offsets[:3])
    started = time.process_time()
    compare(sets.hashes, sets.offsets)
    return time.process_time() - started


if __name__ == "__main__":
    main()
