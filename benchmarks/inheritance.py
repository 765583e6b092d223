"""Licenses detected from texts alone agree with what the installed distributions declare, and judging is fast.

For each distribution of an environment (this one, or the site-packages folder given as argument) that declares a
license and carries texts, the two are compared. They agree when the texts bear out the declaration (of an OR one
arm, of an AND all parts; "BSD" without a number is any of the BSD licenses) and the distribution's own texts hold
nothing that nobody could name and no restriction. Every disagreement is printed. Named licenses that own texts
hold beyond the declaration are printed as "also": a LICENSE file often holds the texts of what is bundled.
Then every source file of the environment is judged with what it inherits: CPU time, types and sources.

    python benchmarks/inheritance.py [SITE_PACKAGES]
"""

import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

BATCH = 500  # files
MAX_BYTES = 1 << 20
UNNAMED = {"LicenseRef-additional-terms", "LicenseRef-unknown-terms"}
BSD = "LicenseRef-BSD"  # a declaration that names no number
HOLDS = {"Python-2.0": "PSF-2.0", "Python-2.0.1": "PSF-2.0"}
"""Texts that hold another one in full: Python's license is a stack, and the first of it is PSF-2.0."""


def main() -> None:
    """Compare declarations with texts, then judge all source files."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_paths()["purelib"])
    compared, disagreements, also = compare(site)
    share = 1 - len(disagreements) / compared if compared else 0.0
    print(f"inheritance: {compared} distributions with a declaration and a text, agreement {share:.4f}")
    for line in disagreements:
        print("  disagree  " + line)
    for line in also:
        print("  also      " + line)
    judge(site)


def compare(site: Path) -> tuple[int, list[str], list[str]]:
    """Return how many distributions were compared, the disagreements, and what texts hold beside."""
    from stack_platform.licenses.directories import and_all, symbols
    from stack_platform.licenses.evidence import directory_evidence

    compared, disagreements, also = 0, [], []
    for folder in sorted(site.glob("*.dist-info")):
        files = {str(p.relative_to(site)): p for p in sorted(folder.rglob("*")) if p.is_file()}
        found = [directory_evidence("environment", path, p.read_bytes()) for path, p in files.items()]
        declared = [e for e in found if e is not None and e.kind == "package" and e.expression != "UNKNOWN"]
        texts = [e for e in found if e is not None and e.kind == "license"]
        if not declared or not texts:
            continue
        compared += 1
        stated = declared[0].expression
        own = and_all(e.expression for e in texts if _is_own(e.path))
        names = {name for e in texts for name in symbols(e.expression)}
        names |= {HOLDS[name] for name in names & set(HOLDS)}
        doubts = own == "UNKNOWN" or not UNNAMED.isdisjoint(_beyond(own, stated))
        line = f"{folder.name.removesuffix('.dist-info')}: declares {stated}, own texts say {own}"
        if doubts or not _borne_out(stated, names):
            disagreements.append(line)
        elif _beyond(own, stated):
            also.append(line)
    return compared, disagreements, also


def _borne_out(stated: str, names: set[str]) -> bool:
    """Evaluate a declaration over the licenses found."""
    from stack_platform.licenses import spdx

    def holds(node: Any) -> bool:
        if node.isliteral:
            wanted = [getattr(symbol, "key", "") for symbol in node.decompose()]
            return all(
                key in names or (key == BSD and any(n.startswith("BSD-") for n in names)) for key in wanted
            )
        verdicts = [holds(arg) for arg in node.args]
        return any(verdicts) if node.operator.strip().upper() == "OR" else all(verdicts)

    return holds(spdx.parse(stated))


def _beyond(own: str, stated: str) -> set[str]:
    """List what own texts hold beyond the declaration."""
    from stack_platform.licenses.directories import symbols

    names = set(symbols(stated))
    number = BSD in names
    return {n for n in symbols(own) if n not in names and not (number and n.startswith(("BSD-", BSD)))}


def _is_own(path: str) -> bool:
    folders = path.split("/")[1:-1]
    foreign = any(
        word in path.rpartition("/")[2].lower() for word in ("third", "bundled", "vendor", "notice")
    )
    return folders in ([], ["licenses"]) and not foreign


def judge(site: Path) -> None:
    """Judge every source file of the environment, each distribution as a repository of its own."""
    from stack_platform.licenses.inherit import directory_evidence, evidence_files, evidence_table, inherit
    from stack_platform.licenses.judge import judge_files

    owners = _owners(site)
    paths = pa.table({"repo_name": list(owners.values()), "path": list(owners)})
    found = (
        directory_evidence(repo, path, (site / path).read_bytes())
        for path, repo in owners.items()
        if evidence_files(path) is not None
    )
    started = time.process_time()
    evidence = evidence_table(found)
    read = time.process_time()
    files = inherit(paths, evidence)
    inherited = time.process_time()
    judging, size, count = 0.0, 0, 0
    types: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for batch in _with_contents(site, files):
        size += sum(len(content) for content in batch["content"].to_pylist())
        count += batch.num_rows
        begun = time.process_time()
        judged = judge_files(batch)
        judging += time.process_time() - begun
        types.update(judged["license_type"].to_pylist())
        sources.update(judged["license_source"].to_pylist())
    print(f"evidence: {evidence.num_rows} rows read in {read - started:.2f} CPU s")
    print(f"inherit: {len(owners):,} paths in {inherited - read:.2f} CPU s")
    print(
        f"judge_files: {count:,} source files, {size / 1e6:.0f} MB, {size / 1e6 / judging:.1f} MB/s of one core"
    )
    print(f"types {dict(types.most_common())}, sources {dict(sources.most_common())}")


def _owners(site: Path) -> dict[str, str]:
    """Map each file that a distribution installed to the name of the distribution."""
    owners: dict[str, str] = {}
    for record in sorted(site.glob("*.dist-info/RECORD")):
        for line in record.read_text("utf-8", errors="replace").splitlines():
            path = line.rsplit(",", 2)[0].strip('"')
            if not path.startswith(("..", "/")) and (site / path).is_file():
                owners[path] = record.parent.name.removesuffix(".dist-info")
    return owners


def _with_contents(site: Path, files: pa.Table) -> Iterator[pa.RecordBatch]:
    """Read the contents of source files, in batches."""
    suffixes = (
        ".py",
        ".pyi",
        ".pyx",
        ".c",
        ".h",
        ".hpp",
        ".cpp",
        ".js",
        ".ts",
        ".rs",
        ".cuh",
        ".css",
        ".html",
    )
    kept = [
        i
        for i, path in enumerate(files["path"].to_pylist())
        if path.endswith(suffixes) and (site / path).stat().st_size <= MAX_BYTES
    ]
    for start in range(0, len(kept), BATCH):
        rows = files.take(kept[start : start + BATCH])
        contents = [(site / path).read_bytes() for path in rows["path"].to_pylist()]
        yield (
            rows.append_column("content", pa.array(contents, pa.large_binary()))
            .combine_chunks()
            .to_batches()[0]
        )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
