"""Every planted benchmark item is found, several times faster than by searching for one item after the other.

Several hundred synthetic items (functions of made-up words) are planted in real files: as they are, with other white
space and case, and with some of their words changed. The peers are the plain loop of StarCoder2's decontamination
(`item in text`, both squeezed beforehand, so that only the search is timed) and, for changed items, sets of 10-grams.

    python benchmarks/contamination.py [FOLDER] [MEGABYTES] [ITEMS]     default: the installed packages, 40, 500
"""

import random
import re
import sys
import time
from pathlib import Path

import pyarrow as pa

from stack_platform.quality.contamination import ContaminationConfig, build_index, find_contaminated, squeeze
from stack_platform.quality.items import Item

NGRAM = 10
WORD = re.compile(r"[a-z0-9_\x80-\U0010ffff]+")
SYLLABLES = ["ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu"]


def main() -> None:
    """Plant items, search for them in all three ways, compare and time."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(pa.__file__).parents[1]
    limit = float(sys.argv[2]) * 1e6 if len(sys.argv) > 2 else 40e6
    rng = random.Random(7)
    items = [
        Item("synthetic", str(n), "prompt", make_item(rng)) for n in range(int((sys.argv[3:] or ["500"])[0]))
    ]
    texts = read_texts(folder, limit)
    rng.shuffle(texts)
    planted = plant(texts, items, rng)
    batch = pa.record_batch({"content": pa.array(texts, pa.large_string())})
    size = sum(len(text.encode()) for text in texts)
    print(
        f"contamination: {len(items)} items planted in {len(planted)} of {len(texts):,} files, {size / 1e6:.0f} MB"
    )
    wrong = compare_substrings(batch, texts, items, planted, size)
    wrong += compare_overlaps(batch, texts, items, planted, size)
    sys.exit(1 if wrong else 0)


def make_item(rng: random.Random) -> str:
    """Make up a function with a description."""
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(rng.randint(20, 60))]
    triples = zip(words, words[1:], words[2:], strict=False)
    body = "\n".join(f"    {a} = {b}({c}, {rng.randint(0, 999)})" for a, b, c in triples)
    return f'def {words[0]}({words[1]}):\n    """{" ".join(words).capitalize()}."""\n{body}\n    return {words[-1]}\n'


def plant(texts: list[str], items: list[Item], rng: random.Random) -> dict[int, str]:
    """Put each item into a file; return how, by row: whole, or with changed words."""
    rows = rng.sample(range(len(texts)), len(items))
    how = {}
    for number, (row, item) in enumerate(zip(rows, items, strict=True)):
        text = item.text
        if number % 3 == 1:
            text = text.replace(" ", rng.choice(["  ", "\n", "\t"])).upper()
        elif number % 3 == 2:
            words = text.split(" ")
            for place in range(20, len(words), 40):
                words[place] = "changed"
            text = " ".join(words)
        how[row] = "changed" if number % 3 == 2 else "whole"
        at = rng.randint(0, len(texts[row]))
        texts[row] = texts[row][:at] + "\n" + text + "\n" + texts[row][at:]
    return how


def read_texts(folder: Path, limit: float) -> list[str]:
    """Read source files up to a size."""
    texts: list[str] = []
    taken = 0
    for path in sorted(folder.rglob("*.py")):
        data = path.read_bytes()
        if b"\xff" not in data and taken < limit:
            texts.append(data.decode("utf-8", "replace"))
            taken += len(data)
    return texts


def compare_substrings(
    batch: pa.RecordBatch, texts: list[str], items: list[Item], planted: dict[int, str], size: int
) -> int:
    """Compare with the plain loop: the same files, the same number of items in each."""
    index = build_index(items, ContaminationConfig(ngrams=False))
    find_contaminated(batch.slice(0, 10), index)
    started = time.process_time()
    _, evidence = find_contaminated(batch, index)
    ours = time.process_time() - started
    squeezed, sought = [squeeze(text) for text in texts], [squeeze(item.text) for item in items]
    started = time.process_time()
    expected = [sum(item in text for item in sought) for text in squeezed]
    theirs = time.process_time() - started
    found = [0 if entry is None else entry["items"] for entry in evidence]
    whole = [row for row, how in planted.items() if how == "whole"]
    recall = sum(found[row] > 0 for row in whole) / max(len(whole), 1)
    wrong = sum(a != b for a, b in zip(found, expected, strict=True))
    print(
        f"substring: recall {recall:.3f} of {len(whole)} planted, {wrong} files differ from the plain loop; "
        f"{size / ours / 1e6:.0f} MB/s of CPU ours, {size / theirs / 1e6:.1f} MB/s the loop, ratio {theirs / ours:.1f}"
    )
    return wrong + (recall < 1)


def compare_overlaps(
    batch: pa.RecordBatch, texts: list[str], items: list[Item], planted: dict[int, str], size: int
) -> int:
    """Compare with sets of n-grams."""
    config = ContaminationConfig(substring=False, threshold=0.5)
    index = build_index(items, config)
    find_contaminated(batch.slice(0, 10), index)
    started = time.process_time()
    reasons, _ = find_contaminated(batch, index)
    ours = time.process_time() - started
    sought = [ngrams(item.text) for item in items]
    started = time.process_time()
    expected = []
    for text in texts:
        here = ngrams(text)
        expected.append(any(len(here & wanted) >= config.threshold * len(wanted) for wanted in sought))
    theirs = time.process_time() - started
    found = [reason is not None for reason in reasons]
    wrong = sum(a != b for a, b in zip(found, expected, strict=True))
    recall = sum(found[row] for row in planted) / max(len(planted), 1)
    print(
        f"10-grams:  recall {recall:.3f} of {len(planted)} planted, a third of them with changed words, {wrong} files "
        f"differ from sets; {size / ours / 1e6:.0f} MB/s of CPU ours, {size / theirs / 1e6:.1f} MB/s sets, "
        f"ratio {theirs / ours:.1f}"
    )
    return wrong + (recall < 1)


def ngrams(text: str) -> set[tuple[str, ...]]:
    """Return the n-grams of a text; the words are those of the library's definition."""
    words = WORD.findall(re.sub("[A-Z]", lambda match: match[0].lower(), text))
    return set(zip(*(words[start:] for start in range(NGRAM)), strict=False))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
