"""Languages are named as linguist does, by name at .985 and faster than enry, and by content alone where no name tells.

    python benchmarks/languages.py LABELED.parquet [--peers FOLDER] [--folds N] [--more REGISTRY_FOLDER ...]

The Parquet file has `name`, `content` and `language` (linguist's name), as in linguist's samples. Ours is scored with a
classifier that never saw the file: N folds (5), files that share lines kept in one fold, trained on the others and on
the folders after `--more` (unpacked source packages; copies of labeled files are left out). Peers (enry-python and
whatever else is there) are read from the folder that `pip install --target FOLDER enry-python` made. Speed is CPU time.
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
    others = without_copies(found, certain)
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


if __name__ == "__main__":
    main()
