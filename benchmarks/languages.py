"""Languages are named as linguist does, by name at .985 and faster than enry, and by content alone where no name tells.

    python benchmarks/languages.py LABELED.parquet [--peers FOLDER] [--folds N] [--more REGISTRY_FOLDER ...]

The Parquet file has `name`, `content` and `language` (linguist's name), as in linguist's samples. Ours is scored with a
classifier that never saw the file: N folds (5), files that share lines kept in one fold, trained on the others and on
the folders after `--more` (unpacked source packages; copies of labeled files are left out). Peers are read from the
folder that `pip install --target FOLDER enry-python magika pygments` made; their labels become linguist's names through
our catalog's names and aliases, then the extensions that they state. Each is scored on all files, and on those in the
languages that it names at all. Speed is CPU time.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from stack_platform.languages import catalog
from stack_platform.languages.detect import detect_language, language_by
from stack_platform.languages.train_classifier import (
    Labeled,
    TrainingConfig,
    at_most,
    labeled_files,
    shared_lines,
    train,
    without_copies,
)

Rows = list[tuple[str, bytes, str]]
Guess = Callable[[str, bytes], str | None]


def main() -> None:
    """Print accuracy and speed of ours and of enry."""
    parser = argparse.ArgumentParser()
    parser.add_argument("labeled", nargs="?", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--every", type=int, default=1, help="take every Nth file for the slow peers")
    parser.add_argument("--more", nargs="*", type=Path, default=[])
    options = parser.parse_args()
    files = environment_files()
    seconds, _ = timed(detect_language, files)
    print(
        f"languages: {len(files) / seconds:,.0f} files/s by name over {len(files):,} files of this environment"
    )
    seconds, _ = timed(lambda _, content: detect_language("", content), files[:5000])
    print(f"languages: {min(5000, len(files)) / seconds:,.0f} files/s by content alone over the same")
    if options.labeled is None:
        print(
            "languages: no labeled files; name a Parquet file with name, content, language to score accuracy"
        )
        return
    rows = labeled(options.labeled)
    often = {language for language, count in Counter(row[2] for row in rows).items() if count >= 3}
    judge_by_folds(rows, often, options.folds, options.more)
    ours, _ = timed(detect_language, [row[:2] for row in rows])
    judge_enry(rows, ours, options.peers)
    judge_by_content(rows, options.every)


def labeled(path: Path) -> Rows:
    """Read the rows; a label that is an alias counts as the language."""
    columns = pq.read_table(path, columns=["name", "content", "language"]).columns
    known = catalog.catalog().languages
    return [
        (name, content, label if label in known else (*catalog.by_alias(label), label)[0])
        for name, content, label in zip(*(column.to_pylist() for column in columns), strict=True)
    ]


def environment_files() -> list[tuple[str, bytes]]:
    """Read every fifth file under 1 MB of this interpreter's packages."""
    folder = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size < 1_000_000)
    return [(path.name, path.read_bytes()) for path in paths[::5]]


def timed(guess: Guess, files: Sequence[tuple[str, bytes]]) -> tuple[float, list[str | None]]:
    """Return CPU seconds and answers; the first files are judged twice, so that loading does not count."""
    for name, content in files[:50]:
        guess(name, content)
    started = time.process_time()
    answers = [guess(name, content) for name, content in files]
    return time.process_time() - started, answers


def judge_by_folds(rows: Rows, often: set[str], folds: int, more: Sequence[Path]) -> None:
    """Score ours on files that the classifier was not trained on."""
    config = TrainingConfig()
    certain: list[Labeled] = [(content, language, config.certain_weight) for _, content, language in rows]
    found = [file for folder in more for file in labeled_files(folder, config)]
    others = at_most(without_copies(found, certain), config)
    fold_of = [root % folds for root in shared_lines([content for content, _, _ in certain])]
    named: list[bool] = []
    alone: list[tuple[str, bool]] = []
    for fold in range(folds):
        trained = train(
            [file for file, at in zip(certain, fold_of, strict=True) if at != fold] + others, config
        )
        for (name, content, language), at in zip(rows, fold_of, strict=True):
            if at == fold:
                named.append(language_by(lambda trained=trained: trained, name, content) == language)
                right = language_by(lambda trained=trained: trained, "", content) == language
                alone.append((language, right))
    frequent = [right for language, right in alone if language in often]
    print(
        f"ours: {sum(named) / len(named):.4f} by name, {sum(right for _, right in alone) / len(alone):.4f} by content"
    )
    print(
        f"ours: {sum(frequent) / len(frequent):.4f} by content where a language has 3 files ({len(frequent)})"
    )


def judge_enry(rows: Rows, ours: float, peers: Path | None) -> None:
    """Score enry on the same files; its own classifier was trained on samples like these."""
    if peers:
        sys.path.append(str(peers))
    try:
        import enry
    except ImportError:
        print("enry is not installed; pip install --target FOLDER enry-python, then --peers FOLDER")
        return
    renamed = {"SaltStack": "Salt", "Vim Script": "Vim script", "robots.txt": "Robots Exclusion Rules"}
    for said, files in (
        ("by name", [row[:2] for row in rows]),
        ("by content", [("", row[1]) for row in rows]),
    ):
        seconds, answers = timed(enry.get_language, files)
        right = sum(renamed.get(str(a), a) == row[2] for a, row in zip(answers, rows, strict=True))
        print(f"enry: {right / len(rows):.4f} {said}, {len(rows) / seconds:,.0f} files/s")
        if said == "by name":
            print(
                f"speed by name on the labeled files: ours {len(rows) / ours:,.0f} files/s, ratio {seconds / ours:.1f}"
            )


def judge_by_content(rows: Rows, every: int) -> None:
    """Score magika and pygments by content; both were made from other files than these."""
    for made in (magika_guess, pygments_guess):
        peer = made()
        if peer is None:
            name = made.__name__.removesuffix("_guess")
            print(f"{name} is not installed; pip install --target FOLDER {name}, then --peers FOLDER")
            continue
        said, guess, known = peer
        chosen = rows[::every]
        seconds, answers = timed(guess, [("", content) for _, content, _ in chosen])
        right = [a == row[2] for a, row in zip(answers, chosen, strict=True)]
        named = [hit for hit, row in zip(right, chosen, strict=True) if row[2] in known]
        print(
            f"{said}: {sum(right) / len(right):.4f} by content, {sum(named) / max(1, len(named)):.4f} of the "
            f"{len(named)} in its {len(known)} languages, {len(chosen) / seconds:,.0f} files/s"
        )


Peer = tuple[str, Guess, set[str]]


def magika_guess() -> Peer | None:
    """Return magika with its version and the languages of linguist that its labels mean, or None."""
    try:
        from magika import ContentTypeLabel, Magika, __version__
    except ImportError:
        return None
    engine = Magika()
    meant = {str(label): named(str(label), ()) for label in ContentTypeLabel}

    def guess(_: str, content: bytes) -> str | None:
        output = engine.identify_bytes(content).output
        return meant.get(str(output.label)) or named(str(output.label), output.extensions)

    return f"magika {__version__}", guess, {each for each in meant.values() if each}


def pygments_guess() -> Peer | None:
    """Return pygments' guess_lexer with its version and the languages that its lexers mean, or None."""
    try:
        from pygments import __version__
        from pygments.lexers import get_all_lexers, guess_lexer
    except ImportError:
        return None
    meant = {
        name: next(filter(None, (named(each, ()) for each in (name, *aliases))), None)
        or named(name, [pattern[2:] for pattern in patterns if pattern.startswith("*.")])
        for name, aliases, patterns, _ in get_all_lexers()
    }

    def guess(_: str, content: bytes) -> str | None:
        return meant.get(guess_lexer(content.decode("utf-8", "replace")).name)

    return f"pygments {__version__} guess_lexer", guess, {each for each in meant.values() if each}


def named(label: str, extensions: Sequence[str]) -> str | None:
    """Return linguist's name for a peer's label: a name or alias, else the one language of its extensions."""
    renamed = {
        "txt": "Text",
        "vba": "VBA",
        "cs": "C#",
        "asm": "Assembly",
        "batch": "Batchfile",
        "latex": "TeX",
    }
    found = catalog.by_alias(renamed.get(label, label)) or catalog.by_alias(label.replace("_", "-"))
    for extension in () if found else extensions:
        found = found or catalog.by_extension(f"a.{extension}")
    return found[0] if len(found) == 1 else None


if __name__ == "__main__":
    main()
