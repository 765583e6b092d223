"""Scrubbed texts have nothing left to scrub, and code that parsed before parses after, in every mode.

Texts: the labeled ones, where their file is named, and real code with an invented secret of many kinds put into every
file, because most real files have none. Checked: scrub(scrub(x)) == scrub(x), no span left at the level itself, and
the verdict of tree-sitter before and after.

    python benchmarks/scrub_rewrite.py [CASES.parquet] [FOLDER] [MEGABYTES]

Default: no cases, the installed packages, 2.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stack_platform.scrub.detect import find_spans
from stack_platform.scrub.redact import MODES, ScrubConfig, scrub_text
from stack_platform.scrub.syntax import parses

SUFFIXES = {".py", ".js", ".ts", ".c", ".h", ".json", ".html", ".css", ".go", ".java", ".rb", ".yaml", ".sh"}
COMMENT = {
    ".py": "# {}",
    ".rb": "# {}",
    ".sh": "# {}",
    ".yaml": "# {}",
    ".html": "<!-- {} -->",
    ".css": "/* {} */",
}


def main() -> None:
    """Scrub everything twice."""
    cases = pq.read_table(sys.argv[1], columns=["path", "text"]).to_pylist() if len(sys.argv) > 1 else []
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(pa.__file__).parents[1]
    code = list(read_code(folder, float(sys.argv[3]) * 1e6 if len(sys.argv) > 3 else 2e6))
    texts = [(case["path"] or "", case["text"]) for case in cases] + code
    failures = 0
    for level in ("balanced", "strict", "paranoid"):
        for mode in MODES:
            failures += check(texts, ScrubConfig(level, mode))
    sys.exit(1 if failures else 0)


def check(texts: Sequence[tuple[str, str]], config: ScrubConfig) -> int:
    """Print what holds for one level and mode; return the failures."""
    changed = again = left = before = after = masked = 0
    for path, text in texts:
        scrubbed = scrub_text(text, path, config)
        if scrubbed.text == text:
            continue
        changed += 1
        masked += scrubbed.masked
        again += scrub_text(scrubbed.text, path, config).text != scrubbed.text
        left += bool(find_spans(scrubbed.text, path, config.sensitivity))
        if parses(text, path):
            before += 1
            after += bool(parses(scrubbed.text, path))
    kept = 100 * after / max(1, before)
    print(
        f"{config.sensitivity:9} {config.mode:9} {changed:6,} of {len(texts):,} texts change; changed again {again}, "
        f"spans left {left}; parsed before {before:,}, after {after:,} ({kept:.2f} %), {masked} of them masked"
    )
    return again + left + (kept < 99.9)


def read_code(folder: Path, limit: float) -> Iterator[tuple[str, str]]:
    """Give path and text of source files that parse, each with secrets of its own in a comment."""
    files = [file for file in sorted(folder.rglob("*")) if file.suffix in SUFFIXES]
    size = 0
    for file in (file for offset in range(101) for file in files[offset::101]):
        if size > limit:
            return
        try:
            text = file.read_text("utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if not 0 < len(text) < 100_000 or not parses(text, str(file)):
            continue
        size += len(text)
        drawn = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        address = f"81.2.{int(drawn[:2], 16)}.{int(drawn[2:4], 16)}"
        secrets = f"mail {drawn[:5]}@{drawn[5:9]}x.org from host {address} token={drawn[:40]}"
        line = "" if file.suffix == ".json" else COMMENT.get(file.suffix, "// {}").format(secrets) + "\n"
        yield str(file.relative_to(folder)), text.rstrip("\n") + "\n" + line


if __name__ == "__main__":
    main()
