"""Derive `catalog.json`, the facts about languages, from the npm package `linguist-languages`.

GitHub's linguist (MIT) keeps the list; the npm package `linguist-languages` (MIT) ships it as JavaScript modules.
Node evaluates the modules, this script keeps the columns the platform uses and writes one language per line,
sorted by name, so that an update reads as a diff. Run it by hand on an unpacked package:

    python -m stack_platform.languages.derive_catalog PACKAGE_FOLDER
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from stack_platform.errors import SourceError

PACKAGE = "linguist-languages"
COLUMNS = {
    "name": "name",
    "type": "type",
    "group": "group",
    "languageId": "language_id",
    "extensions": "extensions",
    "filenames": "filenames",
    "interpreters": "interpreters",
    "aliases": "aliases",
}
"""Keys of the package -> keys of the catalog, in the order they are written."""

_PRINT_AS_JSON = "const all = await import(process.argv[1]); console.log(JSON.stringify(Object.values(all)));"


def read_package(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the package's own description and its languages.

    Raises:
        SourceError: the folder is not an unpacked `linguist-languages`, or Node cannot evaluate it.

    """
    description_file = folder / "package.json"
    if not description_file.is_file():
        raise SourceError(
            f"{folder} holds no package.json; unpack {PACKAGE} (npm pack {PACKAGE}) and name that folder"
        )
    description = json.loads(description_file.read_text(encoding="utf-8"))
    if description.get("name") != PACKAGE:
        raise SourceError(f"{folder} is the package {description.get('name')!r}; expected {PACKAGE!r}")
    index = (folder / "index.js").resolve().as_uri()
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", _PRINT_AS_JSON, index],
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        raise SourceError(
            f"node could not evaluate {index}: {done.stderr.strip()[:500]}; use Node 18 or later"
        )
    return description, json.loads(done.stdout)


def catalog_text(description: dict[str, Any], languages: list[dict[str, Any]]) -> str:
    """Return the text of `catalog.json`: provenance, then one language per line sorted by name."""
    provenance = {
        "package": description["name"],
        "version": description["version"],
        "license": description["license"],
        "upstream": "https://github.com/github-linguist/linguist",
        "upstream_license": "MIT",
        "upstream_copyright": "Copyright (c) 2017 GitHub, Inc.",
        "derived_by": "stack_platform/languages/derive_catalog.py",
    }
    lines = [
        json.dumps({ours: language[theirs] for theirs, ours in COLUMNS.items() if theirs in language})
        for language in sorted(languages, key=lambda language: str(language["name"]))
    ]
    body = ",\n".join(lines)
    return f'{{"provenance": {json.dumps(provenance)},\n"languages": [\n{body}\n]}}\n'


def main(arguments: list[str]) -> None:
    """Write `catalog.json` beside this file from the package folder named on the command line."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m stack_platform.languages.derive_catalog PACKAGE_FOLDER")
    target = Path(__file__).with_name("catalog.json")
    target.write_text(catalog_text(*read_package(Path(arguments[0]))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
