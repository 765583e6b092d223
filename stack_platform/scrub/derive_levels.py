"""Measure every level on labeled cases and on real code, and keep the figures: levels.json.

    python -m stack_platform.scrub.derive_levels CASES.parquet CODE_FOLDER

The figures are shown on the page (page.py) and in docs/scrubbing.md; the cases themselves are not part of the
repository. The thresholds were set with the same cases, so unseen ones come out a little lower.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from stack_platform.scrub.detect import find_spans
from stack_platform.scrub.measure import SECRETS, tally
from stack_platform.scrub.policy import LEVELS

FIGURES = Path(__file__).with_name("levels.json")
TYPES = ("KEY", "PASSWORD", "PRIVATE_KEY", "EMAIL", "IP_ADDRESS", "PHONE", "CREDIT_CARD", "IBAN")
_MAX_BYTES = 40_000_000


def figures_of(
    cases: Sequence[Mapping[str, Any]], code: Sequence[tuple[str, str]], level: str
) -> dict[str, Any]:
    """Return recall, precision and cost of a level; code: path and text of files."""
    counts = tally(cases, partial(find_spans, sensitivity=level))
    characters = sum(len(text) for _, text in code)
    changed = [span for path, text in code for span in find_spans(text, path, level)]
    return {
        "secret recall": round(counts.recall(SECRETS), 3),
        "secret coverage": round(counts.coverage(SECRETS), 3),
        "secret precision": round(counts.precision(SECRETS), 3),
        "precision": round(counts.precision(), 3),
        "harmless texts touched": round(counts.touched(), 4),
        "recall": {kind: round(counts.recall([kind]), 3) for kind in TYPES},
        "precision by type": {kind: round(counts.precision([kind]), 3) for kind in TYPES},
        "labeled": {kind: counts.labeled[kind] for kind in TYPES},
        "spans in a million characters of code": round(1e6 * len(changed) / max(1, characters), 1),
        "characters changed in a million": round(
            1e6 * sum(span.end - span.start for span in changed) / max(1, characters)
        ),
    }


def code_of(folder: Path) -> Iterator[tuple[str, str]]:
    """Give path and text of the files in a folder, in the order of their names, up to 40 MB."""
    total = 0
    for file in sorted(folder.rglob("*")):
        if total > _MAX_BYTES:
            return
        if file.is_file() and 0 < file.stat().st_size < 1_000_000:
            try:
                text = file.read_text("utf-8")
            except (UnicodeDecodeError, OSError):
                continue
            total += len(text)
            yield str(file.relative_to(folder)), text


def main(cases_file: str, folder: str) -> None:
    """Measure and write."""
    cases = pq.read_table(cases_file).to_pylist()
    code = list(code_of(Path(folder)))
    figures = {level: figures_of(cases, code, level) for level in LEVELS}
    provenance = {
        "cases": len(cases),
        "files of code": len(code),
        "characters of code": sum(len(t) for _, t in code),
    }
    FIGURES.write_text(json.dumps({"measured on": provenance, "levels": figures}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
