"""License detection names more licenses exactly than its peers, at a fraction of the cost.

    python benchmarks/licenses.py [CASES.parquet [SCANCODE_ANSWERS.json]]

CASES holds group, name, content, expected, alternates and permissive of labeled files; groups `scdd_*` are
labeled by ScanCode itself and stay out of the comparison. Without it the hard cases of the tests and this
environment are measured. SCANCODE_ANSWERS is written by `licenses_scancode.py`. Times are CPU seconds of one
process; false permissive is by the policy of the project, for every engine. License-dense text is measured on
three sets: the cases that hold a keyword, each judged for the first time; the license files of this environment;
and those packages of it in which nearly every source file has a license header.
"""

import importlib.util
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq

from stack_platform.errors import PolicyError
from stack_platform.licenses import spdx
from stack_platform.licenses.detect import detect_license, forget, is_license_file
from stack_platform.licenses.fingerprints import FILE, index
from stack_platform.licenses.policy import license_type
from stack_platform.licenses.scancode import qualify
from stack_platform.licenses.tokens import find_keywords, locate_keywords

SPELLED = {
    "LicenseRef-scancode-kde-accepted-lgpl": "LicenseRef-KDE-Accepted-LGPL",
    "LicenseRef-scancode-kde-accepted-gpl": "LicenseRef-KDE-Accepted-GPL",
    "LicenseRef-scancode-public-domain": "LicenseRef-public-domain",
}
"""ScanCode's own spelling of names that files state."""

HERE = Path(__file__).parent


def canonical(expression: str) -> str:
    """Normalize an expression, or leave what is none, with names spelled as files state them."""
    for own, stated in SPELLED.items():
        expression = expression.replace(own, stated)
    try:
        return spdx.normalize(expression)
    except PolicyError:
        return expression


def load(name: str) -> ModuleType:
    """Import another benchmark."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_scancode() -> tuple[dict, object, object]:
    """Return ScanCode's answers and the helpers of `licenses_scancode.py`."""
    module = load("licenses_scancode")
    data = json.loads(Path(sys.argv[2]).read_text()) if len(sys.argv) > 2 else {"answers": {}}
    return data, module.key_of, module.hard_cases


def residual_from(answers: dict, key_of: object) -> object:
    """Replay ScanCode's recorded answers as the residual tier."""

    def residual(content: bytes, name: str) -> list:
        lines = content.split(b"\n")
        offsets = [0]
        for line in lines:
            offsets.append(offsets[-1] + len(line) + 1)
        found = answers.get(key_of(name, content), {}).get("matches", [])
        return [
            (
                qualify(m["expression"], m["matcher"]),
                m["rule"],
                offsets[min(m["start_line"], len(lines)) - 1],
                offsets[min(m["end_line"], len(lines))] - 1,
            )
            for m in found
            if "unknown" not in (m["expression"] or "unknown")
        ]

    return residual


def licensecheck_answers(cases: list[dict]) -> list[str]:
    """Run Debian's licensecheck once over all cases."""
    folder = Path(tempfile.mkdtemp())
    paths = []
    for i, case in enumerate(cases):
        paths.append(folder / f"{i}-{Path(case['name']).name}")
        paths[-1].write_bytes(case["content"])
    found: dict[str, str] = {}
    options = ["--check", ".*", "--lines", "0", "--shortname-scheme=spdx", "-m"]
    for size in (20, 1):  # it stops at the first file it cannot decode: what is missing is asked alone
        left = [str(path) for path in paths if str(path) not in found]
        for i in range(0, len(left), size):
            command = ["licensecheck", *options, *left[i : i + size]]
            out = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False
            ).stdout
            found.update(line.split("\t", 1) for line in out.splitlines() if "\t" in line)
    shutil.rmtree(folder)
    answers = [
        found.get(str(path), "UNKNOWN").replace(" and/or ", " OR ").replace(" and ", " AND ")
        for path in paths
    ]
    return ["NONE" if answer == "UNKNOWN" else answer for answer in answers]


def engines(cases: list[dict]) -> dict[str, list[str]]:
    """Answer every case with every engine that is there, ours first; print what is missing."""
    data, key_of, _ = load_scancode()
    residual = residual_from(data["answers"], key_of)
    started = time.process_time()
    ours = [detect_license(c["content"], c["name"]).expression for c in cases]
    seconds = {"ours": time.process_time() - started}
    answers = {"ours": ours}
    if data["answers"]:
        answers["ours + ScanCode"] = [
            detect_license(c["content"], c["name"], residual=residual).expression for c in cases
        ]
        known = [data["answers"].get(key_of(c["name"], c["content"])) for c in cases]
        answers["ScanCode"] = [(k or {}).get("expression") or "NONE" for k in known]
        seconds["ScanCode"] = sum(k["cpu"] for k in known if k)
    else:
        print("  ScanCode: no answers given; see benchmarks/licenses_scancode.py")
    try:
        from licenseclassifier import identify_license
    except ImportError:
        print("  licenseclassifier is not installed; pip install licenseclassifier")
    else:
        started = time.process_time()
        named = [[r.id for r in identify_license(c["content"].decode("utf-8", "replace"), 0)] for c in cases]
        seconds["licenseclassifier"] = time.process_time() - started
        answers["licenseclassifier"] = [
            " AND ".join(sorted(set(map(str, names)))) or "NONE" for names in named
        ]
    if shutil.which("licensecheck"):
        answers["licensecheck"] = licensecheck_answers(cases)
    else:
        print("  licensecheck is not installed; apt-get install licensecheck")
    size = sum(len(c["content"]) for c in cases) / 1e6
    for name, spent in seconds.items():
        ratio = f", ours is {spent / seconds['ours']:.1f} x faster" if name != "ours" else ""
        print(f"  {name}: {size / spent:.3f} MB/s, {len(cases) / spent:.1f} files/s{ratio}")
    return answers


def score(title: str, cases: list[dict]) -> None:
    """Print exactness, false permissive and permissive recall of every engine, by group."""
    print(f"{title}: {len(cases)} cases, {sum(len(c['content']) for c in cases) / 1e6:.1f} MB")
    found = engines(cases)
    explain(cases, found)
    for engine, answers in found.items():
        groups: dict[str, list[int]] = defaultdict(lambda: [0] * 6)
        for case, answer in zip(cases, answers, strict=True):
            permissive = license_type(canonical(answer)) == "permissive"
            exact = canonical(answer) in {canonical(e) for e in case["expected"]}
            for group in ("all", case["group"]):
                row = groups[group]
                row[0] += 1
                row[1] += bool(case["expected"])
                row[2] += exact
                row[3 if case["permissive"] else 4] += 1
                row[5] += permissive and not case["permissive"]
                if case["permissive"] and not permissive:
                    groups[group + " lost"][0] += 1
        for group, (count, labeled, exact, yes, no, false) in sorted(groups.items()):
            if not group.endswith(" lost") and count:
                recall = (yes - groups[group + " lost"][0]) / yes if yes else float("nan")
                print(
                    f"    {engine:18} {group:20} n={count:5} exact={exact / max(1, labeled):.3f}"
                    f" false permissive={false}/{no} permissive recall={recall:.3f}"
                )


def explain(cases: list[dict], answers: dict[str, list[str]]) -> None:
    """Print our false permissives, and how often ScanCode reads a file as we do against its label."""
    for case, answer in zip(cases, answers["ours"], strict=True):
        if license_type(canonical(answer)) == "permissive" and not case["permissive"]:
            print(f"  falsely permissive by label: {case['name']}: {answer}, labeled {case['expected'][0]}")
    if "ScanCode" not in answers:
        return
    both = either = labeled = 0
    for case, ours, other in zip(cases, answers["ours"], answers["ScanCode"], strict=True):
        wanted = {canonical(e) for e in case["expected"]}
        labeled += bool(wanted)
        either += bool(wanted & {canonical(ours), canonical(other)})
        both += bool(wanted) and canonical(ours) not in wanted and canonical(ours) == canonical(other)
    print(
        f"  against the label, and the same as ScanCode: {both}; ours or ScanCode exact: {either / max(1, labeled):.3f}"
    )


def speed(cases: list[dict]) -> None:
    """Print throughput on license-dense and keyword-free text, load time and memory."""
    code = (
        "import time, sys, psutil; from stack_platform.licenses.fingerprints import index; t = time.process_time();"
        "index(); t = time.process_time() - t; from stack_platform.licenses.detect import detect_license;"
        "[detect_license(open(f, 'rb').read(), f) for f in sys.argv[1:]];"
        "print(t, psutil.Process().memory_info().rss / 1e6)"
    )
    files = [str(p) for p in environment_files() if is_license_file(p.name)][:300]
    out = subprocess.run(
        [sys.executable, "-c", code, *files], capture_output=True, text=True, check=True
    ).stdout
    load, peak = map(float, out.split())
    print(
        f"index: {len(index().lengths):,} rules, {FILE.stat().st_size / 1e6:.1f} MB,"
        f" load {load:.3f} s, process {peak:.0f} MB"
    )
    dense = [c for c in cases if find_keywords(c["content"])]
    measure("license-dense, cases", [(c["content"], c["name"]) for c in dense])
    measure("license-dense, license files of this environment", [(Path(f).read_bytes(), f) for f in files])
    for name, paths in header_trees():
        measure(f"license-dense, headers of {name}", [(p.read_bytes(), str(p)) for p in paths])
    sources = [p.read_bytes() for p in environment_files() if p.suffix == ".py"][:6000]
    free = [
        s
        for s, hits in zip(sources, locate_keywords(pa.array(sources, pa.large_binary())), strict=True)
        if hits == []
    ]
    started = time.process_time()
    for i in range(0, len(free), 1000):
        locate_keywords(pa.array(free[i : i + 1000], pa.large_binary()))
    spent = time.process_time() - started
    print(f"keyword-free source: {sum(map(len, free)) / 1e6 / spent:.0f} MB/s ({len(free)} files)")


def measure(title: str, files: list[tuple[bytes, str]]) -> None:
    """Print MB/s of CPU time, with nothing remembered from before; the peer where it is installed."""
    forget()
    spent = timed(lambda: [detect_license(content, name) for content, name in files])
    size = sum(len(content) for content, _ in files) / 1e6
    line = f"{title}: {size / spent:.1f} MB/s ({len(files)} files, {size:.1f} MB, {forget()} different texts)"
    if importlib.util.find_spec("licenseclassifier"):
        from licenseclassifier import identify_license

        sample = random.Random(5).sample(files, min(len(files), 60))
        other = timed(lambda: [identify_license(c.decode("utf-8", "replace"), 0) for c, _ in sample])
        rate = sum(len(content) for content, _ in sample) / 1e6 / other
        line += (
            f"; licenseclassifier {rate:.1f} MB/s on {len(sample)} of them, ratio {size / spent / rate:.1f}"
        )
    print(line)


def timed(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    started = time.process_time()
    work()
    return max(time.process_time() - started, 1e-9)


def header_trees() -> list[tuple[str, list[Path]]]:
    """List the packages of this environment in which nearly every source file begins with a license header."""
    packages: dict[str, list[Path]] = defaultdict(list)
    root = site_packages()
    for path in environment_files():
        if path.suffix in (".py", ".h", ".c", ".cc", ".cpp", ".cuh", ".js") and path.stat().st_size:
            packages[path.relative_to(root).parts[0]].append(path)
    trees = []
    for name, paths in sorted(packages.items()):
        sample = random.Random(5).sample(paths, min(len(paths), 60))
        headed = sum(b"licen" in p.read_bytes()[:1500].lower() for p in sample)
        if len(paths) >= 100 and headed > 0.8 * len(sample):
            trees.append((name, paths))
    return trees


def environment_files() -> list[Path]:
    """List the files of the installed environment that are text by their suffix."""
    files = site_packages().rglob("*")
    return sorted(p for p in files if p.is_file() and p.suffix not in (".so", ".pyc"))


def site_packages() -> Path:
    """Return the folder of this environment's packages."""
    root = Path(json.__file__).parents[1] / "site-packages"
    return next((Path(p) for p in sys.path if p.endswith("site-packages")), root)


def agreement() -> None:
    """Print how often texts bear out what the installed distributions declare."""
    compared, disagreements, also = load("inheritance").compare(site_packages())
    share = 1 - len(disagreements) / max(1, compared)
    print(f"agreement with {compared} declarations: {share:.4f}; {len(also)} own texts hold more licenses")
    for line in disagreements:
        print("  disagree  " + line)


def environment() -> None:
    """Compare the cost of the whole environment with ScanCode's on a random sample, extrapolated."""
    files = environment_files()
    started = time.process_time()
    size = 0
    for i in range(0, len(files), 500):
        paths = files[i : i + 500]
        contents = [p.read_bytes() for p in paths]
        size += sum(map(len, contents))
        hits = locate_keywords(pa.array(contents, pa.large_binary()))
        for path, content, found in zip(paths, contents, hits, strict=True):
            if found != [] or is_license_file(path.name):
                detect_license(content, str(path), found)
    spent = time.process_time() - started
    print(
        f"environment: {len(files):,} files, {size / 1e6:.0f} MB in {spent:.1f} CPU s, {size / 1e6 / spent:.1f} MB/s"
    )
    sample = load_scancode()[0].get("environment")
    if sample:
        per_file = sum(s["cpu"] for s in sample) / len(sample)
        total = per_file * len(files)
        print(
            f"  ScanCode: {per_file:.2f} CPU s for each of {len(sample)} random files, {total:,.0f} s extrapolated"
        )
        print(f"  ratio {total / spent:.0f}")


def main() -> None:
    """Run all parts; fail when a hard case is falsely permissive."""
    hard = [{**c, "group": c["kind"]} for c in load_scancode()[2]()]
    detect_license(b"licensed under the MIT license", "LICENSE")
    cases = []
    if len(sys.argv) > 1:
        rows = pq.read_table(sys.argv[1]).to_pylist()
        cases = [{**row, "expected": [row["expected"], *row["alternates"]]} for row in rows]
        random.Random(5).shuffle(cases)
        score("labeled cases", [c for c in cases if not c["group"].startswith("scdd_")])
        started = [c for c in cases if c["group"].startswith("scdd_")]
        print(f"labeled by ScanCode itself, ours alone, {len(started)} cases:")
        answers = [detect_license(c["content"], c["name"]).expression for c in started]
        exact = sum(
            canonical(a) in {canonical(e) for e in c["expected"]}
            for a, c in zip(answers, started, strict=True)
        )
        print(f"    exact {exact / max(1, len(started)):.3f}")
    else:
        print("no labeled cases given: python benchmarks/licenses.py CASES.parquet [SCANCODE_ANSWERS.json]")
    score("hard cases of the tests, written beside the detector", hard)
    speed(cases or hard)
    environment()
    agreement()
    wrong = [
        c
        for c in hard
        if not c["permissive"]
        and license_type(detect_license(c["content"], c["name"]).expression) == "permissive"
    ]
    sys.exit(f"falsely permissive: {[c['text'][:80] for c in wrong]}" if wrong else 0)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    main()
