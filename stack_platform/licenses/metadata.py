"""Reads the license that package metadata declares: Python, npm and Cargo.

Method, by file name:
 - `PKG-INFO`, `METADATA` (core metadata 2.4): `License-Expression`, else the `License` field when it is a
   name or an expression, else the `Classifier: License ::` lines, AND-combined;
 - `pyproject.toml`: `project.license` (PEP 639 text, or the older table's `text`), else its classifiers,
   else `tool.poetry.license`;
 - `package.json`: `license`, or the deprecated `licenses` list (npm's documentation: a choice, OR);
 - `Cargo.toml`: `package.license`, where `/` is Cargo's old OR.
A field that says "see the license file", is a whole text, or cannot be read gives no evidence (None).
Hostile content gives None, never an exception; more than 4 MiB is not read.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any, NamedTuple

from stack_platform.errors import PolicyError
from stack_platform.licenses import spdx
from stack_platform.licenses.tags import name_to_expression

_MAX_BYTES = 4 << 20
_UNLICENSED = re.compile(
    r"(?i)^(?:unlicensed|proprietary|commercial|private|all rights reserved|none, all rights.*)$"
)
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "BSD License": "LicenseRef-BSD",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "GNU General Public License (GPL)": "GPL-1.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "The Unlicense (Unlicense)": "Unlicense",
    "zlib/libpng License": "Zlib",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "Academic Free License (AFL)": "AFL-3.0",
    "Artistic License": "Artistic-1.0",
    "Common Development and Distribution License 1.0 (CDDL-1.0)": "CDDL-1.0",
    "Eclipse Public License 1.0 (EPL-1.0)": "EPL-1.0",
    "Eclipse Public License 2.0 (EPL-2.0)": "EPL-2.0",
    "European Union Public Licence 1.1 (EUPL 1.1)": "EUPL-1.1",
    "European Union Public Licence 1.2 (EUPL 1.2)": "EUPL-1.2",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "PostgreSQL License": "PostgreSQL",
    "Public Domain": "LicenseRef-public-domain",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Universal Permissive License (UPL)": "UPL-1.0",
    "University of Illinois/NCSA Open Source License": "NCSA",
    "W3C License": "W3C",
    "Zope Public License": "ZPL-2.1",
    "Other/Proprietary License": "LicenseRef-proprietary",
    "Free for non-commercial use": "LicenseRef-additional-terms",
    "Free For Educational Use": "LicenseRef-additional-terms",
    "Free For Home Use": "LicenseRef-additional-terms",
    "Freely Distributable": "LicenseRef-unknown-terms",
    "Freeware": "LicenseRef-unknown-terms",
}


class Declared(NamedTuple):
    """A declared license: the expression, and whether it was given as an SPDX expression."""

    expression: str
    exact: bool


def metadata_license(name: str, content: bytes) -> Declared | None:
    """Read the license declared by a package metadata file; None when it declares none we can name."""
    reader = _READERS.get(name.rsplit("/", 1)[-1])
    if reader is None or len(content) > _MAX_BYTES:
        return None
    try:
        return reader(content.decode("utf-8", errors="replace"))
    except (ValueError, TypeError, AttributeError, RecursionError, PolicyError):
        return None


def _read_core(text: str) -> Declared | None:
    head = text.replace("\r\n", "\n").split("\n\n", 1)[0]
    fields: dict[str, list[str]] = {}
    for line in head.split("\n")[:5000]:
        key, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            fields.setdefault(key.strip().lower(), []).append(value.strip())
    if declared := fields.get("license-expression"):
        return _declare(declared[0])
    multiline = re.search(r"(?m)^License:[^\n]*\n[ \t]+\S", head) is not None
    if not multiline and (declared := fields.get("license")) and (found := _declare(declared[0])):
        return found
    return _read_classifiers(fields.get("classifier", ()))


def _read_classifiers(classifiers: Any) -> Declared | None:
    names = [str(c).rsplit("::", 1)[-1].strip() for c in classifiers if str(c).startswith("License ::")]
    names = [name for name in names if name != "OSI Approved"]
    if not names:
        return None
    return Declared(spdx.combine(_CLASSIFIERS.get(name, spdx.UNKNOWN) for name in names), exact=False)


def _read_pyproject(text: str) -> Declared | None:
    data = tomllib.loads(text)
    project = data.get("project", {})
    declared = project.get("license")
    if isinstance(declared, dict):
        declared = declared.get("text")
    found = _declare(declared) if isinstance(declared, str) else None
    found = found or _read_classifiers(project.get("classifiers", ()))
    poetry = data.get("tool", {}).get("poetry", {}).get("license")
    return found or (_declare(poetry) if isinstance(poetry, str) else None)


def _read_npm(text: str) -> Declared | None:
    data = json.loads(text)
    declared = data.get("license", data.get("licenses"))
    entries = declared if isinstance(declared, list) else [declared]
    names = [entry.get("type") if isinstance(entry, dict) else entry for entry in entries]
    if not names or not all(isinstance(name, str) for name in names):
        return None
    found = [declared for name in names if (declared := _declare(str(name))) is not None]
    if len(found) < len(names):
        return None
    return Declared(spdx.combine((f.expression for f in found), "OR"), all(f.exact for f in found))


def _read_cargo(text: str) -> Declared | None:
    declared = tomllib.loads(text).get("package", {}).get("license")
    return _declare(declared.replace("/", " OR ")) if isinstance(declared, str) else None


def _declare(value: str) -> Declared | None:
    """Translate a declared value; a value that reserves everything is LicenseRef-proprietary."""
    value = value.strip()
    if _UNLICENSED.match(value):
        return Declared("LicenseRef-proprietary", exact=True)
    if spdx.is_known(value):
        return Declared(spdx.normalize(value), exact=True)
    name = name_to_expression(value) if 0 < len(value) <= 200 else None
    return Declared(name, exact=False) if name else None


_READERS = {
    "METADATA": _read_core,
    "PKG-INFO": _read_core,
    "pyproject.toml": _read_pyproject,
    "package.json": _read_npm,
    "Cargo.toml": _read_cargo,
}
METADATA_NAMES = frozenset(_READERS)
"""File names that `metadata_license` reads."""
