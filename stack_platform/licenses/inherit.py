"""What a file inherits from the license texts and package metadata around it.

The rules (policy `nearest`; The Stack v2 took the union over all ancestors instead, so an MIT subtree
below a GPL root was lost and a vendored folder took the root's license):
 1. Evidence lives in directories: license files (LICENSE, COPYING, UNLICENSE ...) and package metadata
    (METADATA, PKG-INFO, pyproject.toml, package.json, Cargo.toml). A directory covers its subtree.
 2. A file inherits from the nearest directory above it that has evidence. `inherited_source` is
    `package` when metadata decided, `repo` for a license file in the root, `dir` for one below.
 3. Folders of foreign code (node_modules, vendor, third_party, _vendor ...) inherit nothing from above;
    their own evidence counts as anywhere else.
 4. Several license files of one directory add up (AND).
 5. License files and metadata in one directory: when the texts say nothing that the declared expression
    does not name, the expression decides (LICENSE-MIT + LICENSE-APACHE with "MIT OR Apache-2.0" is a
    choice). Otherwise the texts decide, and a declaration that is not permissive is added to them. A text
    that is UNKNOWN stays unknown.
 6. An installed Python distribution: `<name>-<version>.dist-info/` (or `.egg-info/`) belongs to the
    folder it lies in, with all license files below it; its metadata covers that whole tree (`package`).
    `License-Expression` outranks the texts beside it, and so do a known `License` field and
    classifiers, with one exception: a text of its own with added restrictions
    (`LicenseRef-additional-terms`, `LicenseRef-proprietary`) is added to a mere field or classifier.
    Without either, the texts decide, AND-ed; an UNKNOWN text is never made permissive by silence.

Left for later: REUSE.toml, DEP-5 and the LICENSES/ folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import pyarrow as pa

from stack_platform.errors import PolicyError, SchemaError
from stack_platform.licenses import spdx
from stack_platform.licenses.detect import detect_license, is_license_file
from stack_platform.licenses.metadata import METADATA_NAMES, metadata_license
from stack_platform.licenses.policy import license_type
from stack_platform.licenses.restrictions import ADDITIONAL_TERMS

if TYPE_CHECKING:
    from collections.abc import Iterable

EvidenceKind = Literal["license", "package"]

VENDORED = frozenset(
    {"node_modules", "bower_components", "jspm_packages", "site-packages", "dist-packages"}
    | {"vendor", "vendors", "vendored", "_vendor", "_vendored", "extern", "external", "externals"}
    | {"third_party", "third-party", "thirdparty", "3rdparty", "3rd_party"}
)
"""Names of folders whose content was written elsewhere."""

EVIDENCE = pa.schema(
    [
        pa.field("repo_name", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("root", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("expression", pa.string(), nullable=False),
        pa.field("exact", pa.bool_(), nullable=False),
        pa.field("distribution", pa.bool_(), nullable=False),
    ]
)
"""Columns of an evidence table; `root` is the directory whose subtree the evidence covers, "" for all."""

_DISTRIBUTION = re.compile(r"^[^/]+\.(?:dist-info|egg-info)$")
_FOREIGN = re.compile(r"(?i)third|bundled|vendor|external")  # texts of what a distribution carries along
_RESTRICTIVE = frozenset({ADDITIONAL_TERMS, "LicenseRef-proprietary"})


@dataclass(frozen=True, slots=True)
class Evidence:
    """One license file or metadata file, and what it says for the directory `root` and all below."""

    repo_name: str
    path: str
    root: str
    kind: EvidenceKind
    expression: str  # SPDX, or UNKNOWN
    exact: bool  # the author wrote an SPDX expression
    distribution: bool  # lies in a .dist-info or .egg-info folder


class Inherited(NamedTuple):
    """What a directory passes on."""

    expression: str
    source: str
    path: str | None


NOTHING = Inherited(spdx.NONE, "none", None)


def evidence_files(path: str) -> EvidenceKind | None:
    """Say by its name alone whether a file is license evidence for others; cheap, reads nothing.

    >>> evidence_files("a/LICENSE"), evidence_files("a/package.json"), evidence_files("a/license.py")
    ('license', 'package', None)
    """
    name = path.rsplit("/", 1)[-1]
    if name in METADATA_NAMES:
        return "package"
    if _in_distribution(path) is not None and "/licenses/" in path.lower():
        return "license"
    if "/LICENSES/" in f"/{path}" or not is_license_file(name):
        return None
    return "license"


def directory_evidence(repo_name: str, path: str, data: bytes) -> Evidence | None:
    """Read one evidence file; None when the name or the content is no evidence."""
    kind = evidence_files(path)
    if kind is None:
        return None
    root = _in_distribution(path)
    distribution = root is not None
    if root is None:
        root = path.rpartition("/")[0]
    if kind == "package":
        declared = metadata_license(path, data)
        if declared is None:
            return None
        return Evidence(repo_name, path, root, kind, declared.expression, declared.exact, distribution)
    expression = detect_license(data, path).expression
    if expression == spdx.NONE:
        return None
    return Evidence(repo_name, path, root, kind, expression, exact=False, distribution=distribution)


def evidence_table(evidence: Iterable[Evidence | None]) -> pa.Table:
    """Put evidence into a table of the schema EVIDENCE, sorted; None is left out."""
    rows = sorted((e for e in evidence if e is not None), key=lambda e: (e.repo_name, e.path))
    return pa.Table.from_pylist(
        [{name: getattr(e, name) for name in EVIDENCE.names} for e in rows], schema=EVIDENCE
    )


def inherit(paths: pa.Table, evidence: pa.Table) -> pa.Table:
    """Add `inherited_expression`, `inherited_source` and `inherited_path` to every path.

    Columns in: paths `repo_name`, `path`; evidence as EVIDENCE. Sources are `dir`, `package`, `repo`,
    `none`. Raises SchemaError when a column is missing.
    """
    _require(paths, ("repo_name", "path"), "paths")
    _require(evidence, EVIDENCE.names, "evidence")
    by_root: dict[tuple[str, str], list[Evidence]] = {}
    for row in evidence.select(EVIDENCE.names).to_pylist():
        by_root.setdefault((row["repo_name"], row["root"]), []).append(Evidence(**row))
    decided = {key: _decide(sorted(rows, key=lambda e: e.path)) for key, rows in by_root.items()}

    @cache
    def resolve(repo: str, directory: str) -> Inherited:
        while True:
            if (found := decided.get((repo, directory))) is not None:
                return found
            parent, _, name = directory.rpartition("/")
            if not directory or name in VENDORED:
                return NOTHING
            directory = parent

    columns = (paths.column(name).to_pylist() for name in ("repo_name", "path"))
    rows = [resolve(repo, path.rpartition("/")[0]) for repo, path in zip(*columns, strict=True)]
    for name, values in zip(
        Inherited._fields, zip(*rows, strict=True) if rows else ((), (), ()), strict=True
    ):
        paths = paths.append_column(f"inherited_{name}", pa.array(values, pa.string()))
    return paths


def _require(table: pa.Table, names: Iterable[str], what: str) -> None:
    missing = sorted(set(names) - set(table.column_names))
    if missing:
        raise SchemaError(f"{what} lack the columns {missing}; they have {table.column_names}")


def _in_distribution(path: str) -> str | None:
    """Return the folder that holds the .dist-info or .egg-info folder of the path, or None."""
    parts = path.split("/")
    for i, part in enumerate(parts[:-1]):
        if _DISTRIBUTION.match(part):
            return "/".join(parts[:i])
    return None


def _decide(rows: list[Evidence]) -> Inherited:
    """Combine the evidence of one directory (rules 4 to 6 of the module docstring)."""
    installed = [e for e in rows if e.distribution]
    texts = [e for e in installed or rows if e.kind == "license"]
    declared = sorted(
        (e for e in installed or rows if e.kind == "package"), key=lambda e: (not e.exact, e.path)
    )
    source = "repo" if rows[0].root == "" else "dir"
    if not declared:
        source = "package" if installed else source
        return Inherited(_and(e.expression for e in texts), source, texts[0].path)
    first = declared[0]
    if installed:
        own = [e for e in texts if not _FOREIGN.search(e.path.rpartition("/")[2])]
        restricted = [e.expression for e in own if _RESTRICTIVE & set(_symbols(e.expression))]
        parts = [first.expression] if first.exact else [first.expression, *restricted]
        return Inherited(_and(parts), "package", first.path)
    if not texts:
        return Inherited(first.expression, "package", first.path)
    text = _and(e.expression for e in texts)
    if text != spdx.UNKNOWN and set(_symbols(text)) <= _implied(first.expression):
        return Inherited(first.expression, "package", first.path)
    if license_type(first.expression) != "permissive":
        text = _and([text, first.expression])
    return Inherited(text, source, texts[0].path)


def _implied(expression: str) -> set[str]:
    """List the symbols a declaration covers; 'LicenseRef-BSD' leaves it to the text which BSD it is."""
    return set(_symbols(expression)) - {"LicenseRef-BSD"}


def _symbols(expression: str) -> tuple[str, ...]:
    try:
        return spdx.symbols(expression)
    except PolicyError:
        return ()


def _and(expressions: Iterable[str]) -> str:
    """AND expressions; when the result is too long to be an expression, it is UNKNOWN."""
    try:
        return spdx.combine(expressions)
    except PolicyError:
        return spdx.UNKNOWN
