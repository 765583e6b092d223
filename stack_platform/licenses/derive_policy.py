"""Derives `policy.json`: which SPDX identifiers are permissive, and on whose word.

Method: permissive = Blue Oak Council list, tiers Model to Lead, UNION ScanCode LicenseDB categories
"Permissive" and "Public Domain" (the rule of The Stack v2, arXiv:2402.19173, section 2.1; there the two
lists were fetched unpinned at run time). Everything else that LicenseDB knows is non-permissive.
Exceptions are listed when LicenseDB's category says that they only add permissions. Our own overrides
come last and carry their reason.

Run: python -m stack_platform.licenses.derive_policy blueoak-list-15.0.0.tgz
(the tarball of the npm package @blueoak/list).
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("policy.json")
SCANCODE_PERMISSIVE = frozenset({"Permissive", "Public Domain"})
SCANCODE_ADDS_PERMISSION = SCANCODE_PERMISSIVE | {"Copyleft Limited", "Copyleft"}
OVERRIDES = {
    "JSON": ["non_permissive", "'shall be used for Good, not Evil' restricts the field of use"],
    "MPL-2.0-no-copyleft-exception": [
        "non_permissive",
        "a license, although LicenseDB lists it as an exception",
    ],
    "LicenseRef-additional-terms": ["non_permissive", "a named license plus a restriction found beside it"],
    "LicenseRef-BSD": ["permissive", "'BSD license' without a number: 1 to 4 clauses are all permissive"],
    "LicenseRef-public-domain": ["permissive", "an explicit dedication to the public domain"],
    "LicenseRef-proprietary": ["non_permissive", "all use is reserved"],
}


def read_blue_oak(tarball: Path) -> dict[str, Any]:
    """Read tiers and provenance of @blueoak/list from its npm tarball."""
    with tarfile.open(tarball) as archive:
        package = json.loads(_member(archive, "package/package.json"))
        tiers = json.loads(_member(archive, "package/index.json"))
    return {
        "source": f"npm @blueoak/list {package['version']}",
        "license": package["license"],
        "sha256": hashlib.sha256(tarball.read_bytes()).hexdigest(),
        "tiers": {tier["name"]: sorted(entry["id"] for entry in tier["licenses"]) for tier in tiers},
    }


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file of the tarball; give the tarball of npm's @blueoak/list")
    return file.read()


def derive(blue_oak: dict[str, Any], index: list[dict[str, Any]], index_version: str) -> dict[str, Any]:
    """Build the policy from Blue Oak's tiers and the entries of ScanCode's LicenseDB index."""
    permissive = {i for ids in blue_oak["tiers"].values() for i in ids}
    known: set[str] = set()
    exceptions: set[str] = set()
    restricting: set[str] = set()
    for entry in index:
        keys = {entry.get("spdx_license_key"), *(entry.get("other_spdx_license_keys") or ())} - {None, ""}
        if entry["is_exception"]:
            adds = entry["category"] in SCANCODE_ADDS_PERMISSION
            (exceptions if adds else restricting).update(keys)
            continue
        known |= keys
        if entry["category"] in SCANCODE_PERMISSIVE:
            permissive |= keys
    denied = {i for i, (kind, _) in OVERRIDES.items() if kind != "permissive"}
    permissive = (permissive | (OVERRIDES.keys() - denied)) - denied
    return {
        "name": "blueoak-lead+scancode-permissive",
        "provenance": {
            "blue_oak": {key: blue_oak[key] for key in ("source", "license", "sha256")},
            "scancode": {
                "source": f"license-expression {index_version}, data/scancode-licensedb-index.json",
                "license": "CC-BY-4.0, nexB Inc. and others, https://scancode-licensedb.aboutcode.org",
            },
        },
        "overrides": OVERRIDES,
        "permissive": sorted(permissive),
        "non_permissive": sorted((known | denied) - permissive),
        "exceptions": sorted(exceptions - restricting - denied),
    }


def main() -> None:
    """Write `policy.json` from the tarball named on the command line."""
    from license_expression import get_license_index

    blue_oak = read_blue_oak(Path(sys.argv[1]))
    policy = derive(blue_oak, get_license_index(), version("license-expression"))
    OUTPUT.write_text(json.dumps(policy, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
