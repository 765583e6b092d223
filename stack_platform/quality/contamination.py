"""Find benchmark items in files, so that a model is not tested on what it learned.

Two searches, each may be off:
- substring, as in StarCoder2: the item's whole text lies in the file, both without white space and in lower case
  (ASCII; NUL counts as white space)
- n-grams: at least `threshold` of an item's distinct `ngram`-word sequences lie anywhere in the file; words are runs
  of letters, digits and `_`, in lower case, and every character outside ASCII is a letter

Both are exact on their definitions up to collisions of 64-bit hashes of n-grams. Items that are too short, too
uniform, named generic, or equal to an earlier one are not searched, and `ContaminationIndex.report` says so.
Measured with 500 items: recall 1.0, 450 MB/s of CPU time for substrings (the plain loop: 16) and 250 MB/s for 10-grams
(benchmarks/contamination.py).

Sources: Lozhkov et al. 2024, section 2; BigCode's decontamination scripts (case); Brown et al. 2020 (n-grams).
Known error: a paraphrase, a translation, or an item whose names were changed is not found.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stack_platform.errors import ConfigError, SchemaError
from stack_platform.quality import settings
from stack_platform.quality.items import Benchmark, Item, pin, read_benchmark, read_items
from stack_platform.quality.policy import Evidence, Reasons
from stack_platform.quality.signals import text_buffers

REPORT = pa.schema(
    [
        ("benchmark", pa.string()),
        ("item", pa.string()),
        ("kind", pa.string()),  # prompt, solution
        ("substring", pa.string()),  # searched, or why not
        ("ngrams", pa.string()),
    ]
)
GENERIC_SOLUTIONS = ("return x + y", "return len(string)", "return n**2", "return ''.join(strings)")
"""Answers of HumanEval that any program may hold."""

_SEARCHED, _OFF = "searched", "off"
_MAX_WINDOW = 32  # bytes
_MIN_DIFFERENT = 6  # different characters of an item that is worth a search
_CANDIDATES = 64  # windows of an item that may become its anchor


@dataclass(frozen=True, slots=True)
class ContaminationConfig:
    """What to search for, and how."""

    benchmarks: tuple[Benchmark, ...] = ()
    substring: bool = True
    min_chars: int = 16  # bytes of an item without white space; at least 8
    generic: tuple[str, ...] = GENERIC_SOLUTIONS  # texts that are not searched
    ngrams: bool = True
    ngram: int = 10  # words
    threshold: float = 0.5  # share of an item's distinct n-grams
    min_ngrams: int = 5  # distinct n-grams of an item


@dataclass(frozen=True, slots=True)
class ContaminationIndex:
    """Items, ready to be searched; `build_index` and `load_index` make one."""

    config: ContaminationConfig
    items: tuple[Item, ...]  # those that some search uses
    report: pa.Table  # REPORT: every item that was read
    substrings: Any  # arguments of windows.find_substrings, behind the texts
    overlaps: Any  # arguments of windows.find_overlaps, behind the texts
    substring_items: NDArray[np.int64]  # place in `items` of each item of a search
    overlap_items: NDArray[np.int64]
    ngram_counts: NDArray[np.int64]  # distinct n-grams of each item of the second search


def read_config(path: Path) -> ContaminationConfig:
    """Read the settings from a YAML or JSON file and pin the benchmark files by their digests.

    The keys are the fields of ContaminationConfig and, in each of `benchmarks`, those of items.Benchmark.
    """
    raw = settings.read_mapping(path)
    settings.only_known(raw, {field.name for field in fields(ContaminationConfig)}, str(path))
    listed = raw.get("benchmarks", [])
    if not isinstance(listed, list):
        raise ConfigError(f"{path}.benchmarks is {listed!r}; write a list of mappings with name and path")
    checked: dict[str, Any] = {
        "benchmarks": tuple(
            pin(read_benchmark(value, f"{path}.benchmarks[{index}]")) for index, value in enumerate(listed)
        )
    }
    for name, value in raw.items():
        key = f"{path}.{name}"
        if name in ("substring", "ngrams"):
            checked[name] = settings.flag(value, key)
        elif name in ("min_chars", "ngram", "min_ngrams"):
            checked[name] = settings.whole(value, key, 8 if name == "min_chars" else 1)
        elif name == "threshold":
            checked[name] = settings.number(value, key, 0.0, 1.0)
        elif name == "generic":
            checked[name] = settings.texts(value, key)
    return ContaminationConfig(**checked)


def pinned(config: ContaminationConfig) -> ContaminationConfig:
    """Write the digests of the benchmark files into the settings, so that they name what is searched for."""
    return replace(config, benchmarks=tuple(pin(benchmark) for benchmark in config.benchmarks))


@lru_cache(maxsize=2)
def load_index(config: ContaminationConfig) -> ContaminationIndex:
    """Read the benchmarks of a configuration and index them, once a process."""
    return build_index([item for benchmark in config.benchmarks for item in read_items(benchmark)], config)


def build_index(
    items: Sequence[Item], config: ContaminationConfig = ContaminationConfig()
) -> ContaminationIndex:
    """Index items for both searches; which are not searched, and why, is in the report."""
    _check(config)
    generic = {squeeze(text) for text in config.generic}
    squeezed = [squeeze(item.text) for item in items]
    grams = [_ngrams(item.text, config.ngram) for item in items]
    by_text = _states(
        [text if config.substring else None for text in squeezed],
        lambda text: _unfit_text(text, generic, config),
    )
    by_grams = _states(
        [found.tobytes() if config.ngrams else None for found in grams],
        lambda found: "too few n-grams" if len(found) < 8 * config.min_ngrams else None,
    )
    report = pa.table(
        {
            "benchmark": [item.benchmark for item in items],
            "item": [item.id for item in items],
            "kind": [item.kind for item in items],
            "substring": by_text,
            "ngrams": by_grams,
        },
        schema=REPORT,
    )
    with_text = [index for index, state in enumerate(by_text) if state == _SEARCHED]
    with_grams = [index for index, state in enumerate(by_grams) if state == _SEARCHED]
    return ContaminationIndex(
        config=config,
        items=tuple(items),
        report=report,
        substrings=_index_texts([squeezed[index] for index in with_text], min(config.min_chars, _MAX_WINDOW)),
        overlaps=_index_grams([grams[index] for index in with_grams], config),
        substring_items=np.array(with_text, np.int64),
        overlap_items=np.array(with_grams, np.int64),
        ngram_counts=np.array([len(grams[index]) for index in with_grams], np.int64),
    )


def squeeze(text: str) -> bytes:
    """Take the white space and NUL out of a text and lower its ASCII letters."""
    return text.encode("utf-8", "surrogatepass").lower().translate(None, b"\0 \t\n\r\f\v")


def find_contaminated(batch: pa.RecordBatch, index: ContaminationIndex) -> tuple[Reasons, Evidence]:
    """Find the files that hold benchmark items: reason `contaminated` and evidence, None where a file is clean.

    Columns in: content. Evidence names the first match by its place: benchmark, item, kind, match (`substring` or
    `ngrams`), start and end in code points, for n-grams the share that was found; and how many items matched.
    """
    if "content" not in batch.schema.names:
        raise SchemaError(f"decontamination needs the column content; the batch has {batch.schema.names}")
    from stack_platform.quality.windows import SQUEEZED

    texts = text_buffers(batch["content"])
    data, starts, stops = texts
    first: dict[int, _Match] = {}
    found: dict[int, set[int]] = {}
    for row, item, start, end, _ in _search(texts, index.substrings, "substring"):
        which = int(index.substring_items[item])
        _keep_first(first, row, (start, which, end, "substring", 1.0))
        found.setdefault(row, set()).add(which)
    for row, (start, which, end, kind, share) in first.items():
        places = np.flatnonzero(SQUEEZED[data[starts[row] : stops[row]]])
        first[row] = (int(places[start]), which, int(places[end - 1]) + 1, kind, share)
    for row, item, start, end, grams in _search(texts, index.overlaps, "ngrams"):
        which = int(index.overlap_items[item])
        _keep_first(first, row, (start, which, end, "ngrams", grams / int(index.ngram_counts[item])))
        found.setdefault(row, set()).add(which)
    reasons: Reasons = [None] * batch.num_rows
    evidence: Evidence = [None] * batch.num_rows
    for row, match in first.items():
        reasons[row] = "contaminated"
        evidence[row] = _describe(data[starts[row] : stops[row]], match, index.items, len(found[row]))
    return reasons, evidence


_Match = tuple[int, int, int, str, float]  # start, place in `items`, end, kind of match, share of n-grams


def _keep_first(first: dict[int, _Match], row: int, match: _Match) -> None:
    """Keep the match that starts first; of two that start together, that of the earlier search and item."""
    kept = first.get(row)
    if kept is None or match[0] < kept[0] or (match[3] == kept[3] and match[:2] < kept[:2]):
        first[row] = match


def _describe(text: NDArray[np.uint8], match: _Match, items: Sequence[Item], count: int) -> dict[str, Any]:
    start, which, end, kind, share = match
    item = items[which]
    described: dict[str, Any] = {
        "benchmark": item.benchmark,
        "item": item.id,
        "kind": item.kind,
        "match": kind,
        "start": _code_points(text[:start]),
        "end": _code_points(text[:end]),
        "items": count,
    }
    if kind == "ngrams":
        described["share"] = round(share, 4)
    return described


def _code_points(text: NDArray[np.uint8]) -> int:
    return int(np.count_nonzero((text & 0xC0) != 0x80))


def _search(texts: Any, arguments: Any, kind: str) -> Iterable[list[int]]:
    """Run a search again with room for all its hits where there were more than expected."""
    if arguments is None:
        return []
    from stack_platform.quality import windows

    search: Any = windows.find_substrings if kind == "substring" else windows.find_overlaps
    room = 1024
    while True:
        hits = np.zeros((room, 5), np.int64)
        found = search(texts, *arguments, hits)
        if found <= room:
            rows: list[list[int]] = hits[:found].tolist()
            return rows
        room = found


def _check(config: ContaminationConfig) -> None:
    settings.whole(config.min_chars, "min_chars", 8)
    settings.whole(config.ngram, "ngram", 1)
    settings.whole(config.min_ngrams, "min_ngrams", 1)
    settings.number(config.threshold, "threshold", 0.0, 1.0)


def _states(keys: Sequence[bytes | None], unfit: Any) -> list[str]:
    """Say for each item whether it is searched: not without a key, not when unfit, not a second time."""
    first: dict[bytes, int] = {}
    states = []
    for index, key in enumerate(keys):
        reason = _OFF if key is None else unfit(key)
        if reason is None and key is not None:
            reason = _SEARCHED if first.setdefault(key, index) == index else "same as an earlier item"
        states.append(reason)
    return states


def _unfit_text(text: bytes, generic: set[bytes], config: ContaminationConfig) -> str | None:
    if len(text) < config.min_chars:
        return "too short"
    if text in generic:
        return "generic"
    return "too uniform" if len(set(text)) < _MIN_DIFFERENT else None


def _ngrams(text: str, ngram: int) -> NDArray[np.uint64]:
    from stack_platform.quality.windows import ngram_hashes

    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    hashes, places = np.empty(data.size // 2 + 1, np.uint64), np.empty((data.size // 2 + 1, 2), np.int64)
    found = ngram_hashes(data, 0, data.size, ngram, hashes, places)
    return np.unique(hashes[:found])


def _index_texts(texts: Sequence[bytes], window: int) -> Any:
    """Choose each item's anchor: of some of its windows one that fewest items share, with the most characters."""
    if not texts:
        return None
    from stack_platform.quality.windows import window_hashes

    arrays = [np.frombuffer(text, np.uint8) for text in texts]
    hashes, offsets = [], []
    for array in arrays:
        every = window_hashes(array, window)
        chosen = np.arange(0, every.size, max(1, every.size // _CANDIDATES))
        hashes.append(every[chosen])
        offsets.append(chosen)
    distinct, counts = np.unique(np.concatenate(hashes), return_counts=True)
    anchors, places = np.empty(len(texts), np.uint64), np.empty(len(texts), np.int64)
    for index, array in enumerate(arrays):
        shared = counts[np.searchsorted(distinct, hashes[index])]
        views = np.sort(np.lib.stride_tricks.sliding_window_view(array, window)[offsets[index]], axis=1)
        different = (np.diff(views.astype(np.int16), axis=1) > 0).sum(axis=1)
        best = np.lexsort((offsets[index], -different, shared))[0]
        anchors[index], places[index] = hashes[index][best], offsets[index][best]
    table, bounds, which = _tabulate(anchors, np.arange(len(texts)))
    ends = np.concatenate([[0], np.cumsum([array.size for array in arrays])]).astype(np.int64)
    return window, table, (bounds, which, places[which]), (np.concatenate(arrays), ends)


def _index_grams(grams: Sequence[NDArray[np.uint64]], config: ContaminationConfig) -> Any:
    if not grams:
        return None
    owners = np.repeat(np.arange(len(grams)), [found.size for found in grams])
    table, bounds, which = _tabulate(np.concatenate(grams), owners)
    needed = np.array([max(1, math.ceil(found.size * config.threshold - 1e-9)) for found in grams], np.int64)
    return config.ngram, table, (bounds, which), needed


def _tabulate(hashes: NDArray[np.uint64], owners: NDArray[np.int64]) -> Any:
    """Make the hash table of distinct hashes, and the owners of each: `which[bounds[v] : bounds[v + 1]]`."""
    from stack_platform.quality.windows import fill_table

    order = np.lexsort((owners, hashes))
    distinct, counts = np.unique(hashes, return_counts=True)
    slots = 1 << max(4, (2 * distinct.size).bit_length())
    table = (np.zeros(4 * slots, np.uint8), np.zeros(slots, np.uint64), np.full(slots, -1, np.int64))
    fill_table(table, distinct)
    bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return table, bounds, owners[order].astype(np.int64)
