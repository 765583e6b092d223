"""Reads the license that package metadata declares: Python, npm, Cargo and Maven.

Method, by file name:
 - `PKG-INFO`, `METADATA` (core metadata 2.4): `License-Expression`, else the `License` field when it is a
   name or an expression, else the `Classifier: License ::` lines, AND-combined;
 - `pyproject.toml`: `project.license` (PEP 639 text, or the older table's `text`), else its classifiers,
   else `tool.poetry.license`;
 - `package.json`: `license`, or the deprecated `licenses` list (npm's documentation: a choice, OR);
 - `Cargo.toml`: `package.license`, or what a workspace lends its members; `/` is Cargo's old OR;
 - `pom.xml`: `project/licenses/license/name`, else its `url`; several are a choice (Maven's POM reference).
A field that points to a license file gives no evidence (None): the file speaks for itself. A field whose
text nobody can name is UNKNOWN, so that the package does not inherit past it. Hostile content gives None or
UNKNOWN, never an exception; XML with a document type is not read (entities); more than 4 MiB is not read.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any, NamedTuple
from xml.parsers import expat

from stack_platform.errors import PolicyError
from stack_platform.licenses import spdx
from stack_platform.licenses.detect import detect_license, is_license_file
from stack_platform.licenses.tags import name_to_expression

_MAX_BYTES = 4 << 20
_UNLICENSED = re.compile(
    r"(?i)^(?:unlicensed|proprietary|commercial|private|all rights reserved|none, all rights.*)$"
)
_POINTER = re.compile(
    r"(?i)^(?:please\s+)?(?:(?:see|refer to)\b.*?|(?:license|copying)\s+file\b.*?)(\S*)$", re.DOTALL
)
_SILENT = frozenset({"", "none", "unknown", "n/a", "todo", "tbd", "-"})
_MAX_NAME = 200  # characters; more is a text
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
    classified = _read_classifiers(fields.get("classifier", ()))
    field = re.search(r"(?ms)^License:[ \t]*([^\n]*(?:\n[ \t|][^\n]*)*)", head)
    if field is None:
        return classified
    named = _declare(field[1])
    unnamed = named is None or named.expression == spdx.UNKNOWN or "\n" in field[1]
    return (classified or named) if unnamed else named


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
    return _choice([_declare(str(name)) for name in names])


def _read_cargo(text: str) -> Declared | None:
    data = tomllib.loads(text)
    declared = data.get("package", {}).get("license")
    if not isinstance(declared, str):
        declared = data.get("workspace", {}).get("package", {}).get("license")
    return _declare(declared.replace("/", " OR ")) if isinstance(declared, str) else None


def _read_pom(text: str) -> Declared | None:
    """Read the licenses of a POM with expat; a document type is refused, and with it every entity."""
    licenses: list[dict[str, str]] = []
    stack: list[str] = []

    def start(name: str, _: object) -> None:
        stack.append(name.rpartition(":")[2])
        if stack == ["project", "licenses", "license"]:
            licenses.append({})

    def text_of(data: str) -> None:
        if len(stack) == 4 and licenses and stack[:3] == ["project", "licenses", "license"]:
            licenses[-1][stack[3]] = licenses[-1].get(stack[3], "") + data

    def refuse(*_: object) -> None:
        raise ValueError("a POM has no document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.CharacterDataHandler = text_of
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError:
        return None
    return _choice([_read_pom_license(entry) for entry in licenses]) if licenses else None


def _read_pom_license(entry: dict[str, str]) -> Declared | None:
    named = _declare(entry.get("name", ""))
    if (named is None or named.expression == spdx.UNKNOWN) and (url := entry.get("url", "").strip()):
        by_url = detect_license(url.encode()).expression
        if by_url != spdx.NONE:
            return Declared(by_url, exact=False)
    return named or Declared(spdx.UNKNOWN, exact=False)


def _choice(arms: list[Declared | None]) -> Declared | None:
    """OR declarations; None when one of them says nothing."""
    found = [arm for arm in arms if arm is not None]
    if len(found) < len(arms):
        return None
    return Declared(spdx.combine((f.expression for f in found), "OR"), all(f.exact for f in found))


def _declare(value: str) -> Declared | None:
    """Translate a declared value: None for a pointer to a license file, UNKNOWN for words nobody can name.

    A value that reserves everything is LicenseRef-proprietary.
    """
    value = value.strip()
    pointer = _POINTER.match(value) if len(value) <= _MAX_NAME else None
    if value.lower() in _SILENT or is_license_file(value) or (pointer and is_license_file(pointer[1])):
        return None
    if _UNLICENSED.match(value):
        return Declared("LicenseRef-proprietary", exact=True)
    if spdx.is_known(value):
        return Declared(spdx.normalize(value), exact=True)
    name = name_to_expression(value) if len(value) <= _MAX_NAME else None
    if name is None and "\n" in value:
        name = detect_license(value.encode("utf-8", errors="replace"), "LICENSE").expression
    return Declared(name or spdx.UNKNOWN, exact=False)


_READERS = {
    "METADATA": _read_core,
    "PKG-INFO": _read_core,
    "pyproject.toml": _read_pyproject,
    "package.json": _read_npm,
    "Cargo.toml": _read_cargo,
    "pom.xml": _read_pom,
}
METADATA_NAMES = frozenset(_READERS)
"""File names that `metadata_license` reads."""
