"""Train `classifier.npz`, the weights of the language classifier, from labeled files.

    python -m stack_platform.languages.train_classifier OUTPUT LABELED.parquet ... [FOLDER ...]

A Parquet file has the columns `name`, `content` and `language`; its labels are taken as they are. A folder is the
source of some package: a file is labeled by its name where modeline, file name, `#!`, extension or rules name one
language, else by the folder or stem that is a language's alias (how collections of highlighting samples are laid out).
Files of folders that share over half of their lines with a Parquet file's are left out. Labels of Parquet files weigh
three times as much, being certain. Deterministic; numpy only. The output names its inputs and how many files each gave.
"""

import json
import re
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stack_platform.errors import SourceError
from stack_platform.languages import catalog
from stack_platform.languages.classifier import Classifier
from stack_platform.languages.detect import named_language
from stack_platform.languages.features import SIZE, features, without_first_comment
from stack_platform.languages.popularity import BY_POPULARITY

Labeled = tuple[bytes, str, float]
"""Content, linguist's name, weight."""

Document = tuple[NDArray[np.uint32], NDArray[np.float32], int, float]
"""Numbers of the features, their strengths at length 1, column of the language, weight."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How the weights are made."""

    rarity_power: float = 1.5
    """Exponent of the inverse class frequency; linguist takes 1."""
    certain_weight: float = 3.0
    """Weight of a file with a given label against one labeled by its name."""
    prior_per_log_count: float = 0.1
    """Prior of a language: 1 + this times log(1 + its files with given labels)."""
    prior_of_popular: float = 0.2
    """Added to the prior of the languages that hold most public code."""
    rounds: int = 5
    """Times that wrong winners are pushed away."""
    push: float = 0.4
    """Part of a file's features that a wrong winner loses in a round."""
    kept_weights: int = 2_000_000
    """Largest number of weights kept; the weakest are dropped."""
    per_source: int = 25
    """Files of one language taken from one folder."""
    per_language: int = 60
    """Files of one language taken from all folders; twice as many gain nothing and take twice the time."""
    texts: int = 500
    """Files of "Text" taken: prose and licenses, which keep languages with long comments from claiming them."""
    max_bytes: int = 300_000
    """Longer files are not read."""


_UNTELLING = {"", "txt", "test", "actual", "in", "sample", "input"}
_SKIPPED = ("expect", ".ref", ".fold", "tokens", "/po/", "/locale")
_PROSE_NAME = re.compile(
    r"(?:README|LICEN[CS]E|COPYING|CHANGE(?:S|LOG)|NEWS|AUTHORS|INSTALL|TODO|THANKS)", re.IGNORECASE
)


def labeled_rows(table: Path, weight: float) -> list[Labeled]:
    """Return the rows of a labeled Parquet file; an alias counts as the name, unknown languages are left out."""
    columns = pq.read_table(table, columns=["content", "language"])
    rows = zip(*(column.to_pylist() for column in columns.columns), strict=True)
    known = catalog.catalog().languages
    named = ((content, (label,) if label in known else catalog.by_alias(label)) for content, label in rows)
    return [(content, names[0], weight) for content, names in named if len(names) == 1]


def labeled_files(folder: Path, config: TrainingConfig) -> Iterator[Labeled]:
    """Yield the files of a folder that tell their language by name or place, in the order of their paths.

    Raises:
        SourceError: there is no such folder.

    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is neither a folder nor a .parquet file; name one of them")
    taken: Counter[str] = Counter()
    for path in sorted(folder.rglob("*")):
        if any(part in str(path) for part in _SKIPPED) or path.is_symlink() or not path.is_file():
            continue
        if not 30 < path.stat().st_size < config.max_bytes:
            continue
        content = _sample(path)
        language = None if b"\0" in content else _label(path, content)
        if language is not None and taken[language] < config.per_source:
            taken[language] += 1
            yield content, language, 1.0


def _sample(path: Path) -> bytes:
    """Return the bytes of a file, without the tokens that test suites of highlighters add below the code."""
    content = path.read_bytes()
    if content.startswith(b"---input---"):
        return content[12:].split(b"\n---tokens---")[0]
    return content.split(b"\n" + b"-" * 40)[0] if path.suffix == ".test" else content


def _label(path: Path, content: bytes) -> str | None:
    if _PROSE_NAME.match(path.name):
        return "Text" if path.suffix in {"", ".txt"} else None
    named = named_language(path.name, content)
    if named not in {None, "Text"} or path.suffix[1:] not in _UNTELLING:
        return named
    for alias in (path.parent.name, path.name.split(".")[0]):
        found = catalog.by_alias(alias.replace("_", "-"))
        if len(found) == 1:
            return found[0]
    return named


def without_copies(files: Iterable[Labeled], certain: Sequence[Labeled]) -> list[Labeled]:
    """Return the files that do not share over half of their longer lines with one of the certain ones."""
    holders: dict[bytes, list[int]] = defaultdict(list)
    sizes = []
    for at, (content, _, _) in enumerate(certain):
        lines = _lines(content)
        sizes.append(len(lines))
        for line in lines:
            holders[line].append(at)
    kept, seen = [], set()
    for content, language, weight in files:
        lines = _lines(content)
        shared = Counter(at for line in lines for at in holders.get(line, ()))
        copy = any(count > 0.5 * max(3, min(len(lines), sizes[at])) for at, count in shared.items())
        if not copy and content not in seen:
            seen.add(content)
            kept.append((content, language, weight))
    return kept


def at_most(files: Iterable[Labeled], config: TrainingConfig) -> list[Labeled]:
    """Return up to `per_language` files of each language, those with the smallest checksums of their bytes."""
    taken: Counter[str] = Counter()
    kept = []
    for file in sorted(files, key=lambda each: (zlib.crc32(each[0]), each[0])):
        taken[file[1]] += 1
        if taken[file[1]] <= (config.texts if file[1] == "Text" else config.per_language):
            kept.append(file)
    return kept


def shared_lines(contents: Sequence[bytes]) -> list[int]:
    """Return for each content the position of the first of its group; contents that share half of their lines group."""
    roots: list[int] = []
    holders: dict[bytes, list[int]] = defaultdict(list)
    sizes: list[int] = []
    for at, content in enumerate(contents):
        lines = _lines(content)
        shared = Counter(other for line in lines for other in holders[line])
        near = [each for each, count in shared.items() if count > 0.5 * max(3, min(len(lines), sizes[each]))]
        root = min((roots[each] for each in near), default=at)
        merged = {roots[each] for each in near}
        roots = [root if each in merged else each for each in roots] if len(merged) > 1 else roots
        roots.append(root)
        sizes.append(len(lines))
        for line in lines:
            holders[line].append(at)
    return roots


def _lines(content: bytes) -> set[bytes]:
    """Return the longer lines of a text, without the license at its start, which many files share."""
    text = without_first_comment(content[:40_000].replace(b"\r\n", b"\n"))
    stripped = (line.strip() for line in text.splitlines())
    return {line for line in stripped if len(line) >= 10}


def train(files: Sequence[Labeled], config: TrainingConfig = TrainingConfig()) -> Classifier:
    """Return the classifier of these files."""
    languages = tuple(sorted({language for _, language, _ in files}))
    column = {language: at for at, language in enumerate(languages)}
    vectors = [features(content) for content, _, _ in files]
    columns = [column[language] for _, language, _ in files]
    lengths = [len(numbers) for numbers, _ in vectors]
    numbers = np.concatenate([each for each, _ in vectors]).astype(np.int64)
    counts = np.concatenate([each for _, each in vectors])
    keys = numbers * len(languages) + np.repeat(columns, lengths)
    known = np.unique(keys)
    holders = np.bincount(known // len(languages), minlength=SIZE)
    rarity = (np.log((len(languages) + 1) / (holders + 1)) + 0.1) ** config.rarity_power
    strengths = counts * rarity[numbers]
    of_file = np.repeat(np.arange(len(files)), lengths)
    norms = np.sqrt(np.bincount(of_file, weights=strengths**2, minlength=len(files)))
    per_file = np.array([each for _, _, each in files]) / np.maximum(norms, 1e-9)
    parts = strengths * np.repeat(per_file, lengths)
    sums = np.bincount(np.searchsorted(known, keys), weights=parts).astype(np.float64)
    prior = _prior(files, languages, config)
    scaled = strengths * np.repeat(1 / np.maximum(norms, 1e-9), lengths)
    documents = [
        (each, part.astype(np.float32), at, weight)
        for (each, _), part, at, (_, _, weight) in zip(
            vectors, np.split(scaled, np.cumsum(lengths)[:-1]), columns, files, strict=True
        )
    ]
    pushed = _pushed(known, sums, documents, prior, config)
    at_column = known % len(languages)
    squares = np.bincount(at_column, weights=pushed**2, minlength=len(languages)).astype(np.float64)
    directions = pushed / np.maximum(np.sqrt(squares), 1e-9)[at_column]
    return _strongest(languages, rarity, known, directions, prior, config.kept_weights)


def _pushed(
    known: NDArray[np.int64],
    sums: NDArray[np.floating],
    documents: Sequence[Document],
    prior: NDArray[np.float32],
    config: TrainingConfig,
) -> NDArray[np.floating]:
    """Return the sums after pushing languages away from the files that they take from others.

    In each round every file is compared with all languages, its own without its own part; the wrong winner loses
    part of the file's features, never below zero (drag-pushing of centroids: Tan, Cheng and others, 2005).
    """
    dense = np.zeros((SIZE, len(prior)), np.float32)
    dense[known // len(prior), known % len(prior)] = sums
    for _ in range(config.rounds):
        factors = prior / np.maximum(np.sqrt(np.einsum("fl,fl->l", dense, dense)), 1e-9)
        lost = []
        for numbers, parts, own, weight in documents:
            scores = parts @ dense[numbers]
            scores[own] -= weight
            scores *= factors
            winner = int(scores.argmax())
            if winner != own:
                lost.append((numbers, parts * np.float32(config.push * weight), winner))
        for numbers, parts, winner in lost:
            np.subtract.at(dense[:, winner], numbers, parts)
        np.maximum(dense, 0, out=dense)
    return dense[known // len(prior), known % len(prior)]


def _prior(files: Sequence[Labeled], languages: Sequence[str], config: TrainingConfig) -> NDArray[np.float32]:
    given = Counter(language for _, language, weight in files if weight == config.certain_weight)
    popular = set(BY_POPULARITY)
    counts = np.log1p([given[language] for language in languages])
    bonus = [config.prior_of_popular * (language in popular) for language in languages]
    return (1 + config.prior_per_log_count * counts + bonus).astype(np.float32)


def _strongest(
    languages: tuple[str, ...],
    rarity: NDArray[np.floating],
    known: NDArray[np.int64],
    directions: NDArray[np.floating],
    prior: NDArray[np.float32],
    kept: int,
) -> Classifier:
    """Return the classifier with the weights that move a score most; `known` is feature times languages + column."""
    part = directions * rarity[known // len(languages)]
    if len(part) > kept:
        mask = part >= np.partition(part, len(part) - kept)[len(part) - kept]
        known, directions = known[mask], directions[mask]
    starts = np.searchsorted(known, np.arange(SIZE + 1) * len(languages)).astype(np.int32)
    return Classifier(
        languages,
        rarity.astype(np.float32),
        starts,
        (known % len(languages)).astype(np.uint16),
        directions.astype(np.float32),
        prior,
    )


def save(trained: Classifier, target: Path, provenance: dict[str, int]) -> None:
    """Write the weights, a byte each with one scale per feature, and how many files came from where."""
    held = np.diff(trained.starts)
    scale = np.zeros(SIZE, np.float32)
    np.maximum.at(scale, np.repeat(np.arange(SIZE), held), trained.weights)
    scale /= 255
    rounded = np.rint(trained.weights / np.maximum(np.repeat(scale, held), 1e-12))
    np.savez_compressed(
        target,
        languages=np.array("\n".join(trained.languages)),
        rarity=trained.rarity.astype(np.float16),
        held=held.astype(np.uint16),
        columns=trained.columns,
        weights=rounded.clip(1, 255).astype(np.uint8),
        scale=scale,
        prior=trained.prior,
        provenance=np.array(json.dumps(provenance, sort_keys=True)),
    )


def main(arguments: list[str]) -> None:
    """Train from the Parquet files and folders named on the command line, and write the first argument."""
    if len(arguments) < 2:
        raise SystemExit("usage: python -m stack_platform.languages.train_classifier OUTPUT INPUT ...")
    config = TrainingConfig()
    certain: list[Labeled] = []
    found: list[Labeled] = []
    provenance = {}
    for source in map(Path, arguments[1:]):
        certain_source = source.suffix == ".parquet"
        rows = (
            labeled_rows(source, config.certain_weight)
            if certain_source
            else list(labeled_files(source, config))
        )
        (certain if certain_source else found).extend(rows)
        provenance[source.name] = len(rows)
    chosen = at_most(without_copies(found, certain), config)
    trained = train([*certain, *chosen], config)
    save(trained, Path(arguments[0]), provenance)
    print(f"{len(trained.languages)} languages, {len(trained.weights)} weights")


if __name__ == "__main__":
    main(sys.argv[1:])
