"""Collects ScanCode's answers for `licenses.py`; run it with the Python of ScanCode's own environment.

    python -m venv /tmp/scancode && /tmp/scancode/bin/pip install 'scancode-toolkit-mini==32.5.0' 'pluggy<1.7' pyarrow
    /tmp/scancode/bin/python benchmarks/licenses_scancode.py ANSWERS.json [CASES.parquet] [FOLDER]

Answered are the hard cases of the tests, the labeled cases except those that ScanCode labeled itself, and 60
random files of FOLDER for the time a file takes. Answers that the file already has are kept.
"""

import hashlib
import json
import random
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

HARD = Path(__file__).parents[1] / "tests" / "licenses" / "hard_cases.json"
SAMPLE = 60


def key_of(name: str, content: bytes) -> str:
    """Return the key of a case in the answers file."""
    return hashlib.sha1(name.encode() + b"\0" + content).hexdigest()


def hard_cases() -> list[dict]:
    """Return the hard cases of the tests with their texts filled in."""
    data = json.loads(HARD.read_text(encoding="utf-8"))

    def spell(match: re.Match) -> str:
        whole = data["texts"][match[1]]
        return whole.replace(match[2], match[3]) if match[2] else whole

    pattern = re.compile(r"\{([A-Z][\w.-]*)(?:\|([^|]*)\|([^|]*))?\}")
    return [case | {"content": pattern.sub(spell, case["text"]).encode()} for case in data["cases"]]


def ask(path: Path) -> dict:
    """Scan one file and return its answer and CPU seconds."""
    from scancode.api import get_licenses

    started = time.process_time()
    try:
        answer = get_licenses(str(path), deadline=time.time() + 60)
    except Exception as error:  # noqa: BLE001
        answer = {"error": repr(error)}
    return {
        "cpu": time.process_time() - started,
        "expression": answer.get("detected_license_expression_spdx"),
        "matches": [
            {
                "expression": match["license_expression_spdx"],
                "start_line": match["start_line"],
                "end_line": match["end_line"],
                "rule": match["rule_identifier"],
                "matcher": match["matcher"],
            }
            for detection in answer.get("license_detections", [])
            for match in detection["matches"]
        ],
    }


def main() -> None:
    """Add what is missing to the answers file."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    target = Path(sys.argv[1])
    data = json.loads(target.read_text()) if target.exists() else {"answers": {}}
    folder = Path(tempfile.mkdtemp())
    cases = [(case["name"], case["content"]) for case in hard_cases()]
    if len(sys.argv) > 2:
        import pyarrow.parquet as pq

        rows = pq.read_table(sys.argv[2]).to_pylist()
        cases += [(r["name"], r["content"]) for r in rows if not r["group"].startswith("scdd_")]
    started = time.process_time()
    (folder / "x").write_text("MIT License")
    ask(folder / "x")
    data.setdefault("load_s", time.process_time() - started)
    for name, content in cases:
        if key_of(name, content) not in data["answers"]:
            path = folder / (Path(name).name or "x")
            path.write_bytes(content)
            data["answers"][key_of(name, content)] = ask(path) | {"bytes": len(content)}
            path.unlink()
    if len(sys.argv) > 3:
        files = sorted(
            p for p in Path(sys.argv[3]).rglob("*") if p.is_file() and p.suffix not in (".so", ".pyc")
        )
        sample = random.Random(5).sample(files, SAMPLE)
        data["environment"] = [{"bytes": p.stat().st_size, "cpu": ask(p)["cpu"]} for p in sample]
    data["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    target.write_text(json.dumps(data))
    print(f"{len(data['answers'])} answers, index load {data['load_s']:.1f} s, {data['rss_mb']:.0f} MB")


if __name__ == "__main__":
    main()
