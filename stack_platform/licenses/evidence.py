"""Reads the files that speak about the license of other files.

Kinds of evidence, and the folder whose subtree each covers (its root):
 - `license`: LICENSE, COPYING, UNLICENSE ...; the folder it lies in;
 - `package`: package metadata (`metadata`); the folder it lies in;
 - `annotations`: REUSE.toml (its folder), `.reuse/dep5` and a machine-readable `debian/copyright` (the
   folder above `.reuse` and `debian`); one row for each annotation, with its patterns;
 - `sidecar`: `<name>.license` with SPDX tags, REUSE's way to speak for the one file `<name>` beside it;
 - `text`: a text in a `LICENSES/` folder, named by its identifier; the folder above. It lends the text to
   others and says nothing itself unless its root has no other evidence.
A license file or metadata in a `.dist-info` or `.egg-info` folder covers the folder that one lies in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from stack_platform.licenses import spdx
from stack_platform.licenses.dep5 import read_dep5
from stack_platform.licenses.detect import detect_license, is_license_file
from stack_platform.licenses.globs import escape
from stack_platform.licenses.metadata import METADATA_NAMES, metadata_license
from stack_platform.licenses.reuse import Annotation, Precedence, read_reuse_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EvidenceKind = Literal["license", "package", "annotations", "sidecar", "text"]

EVIDENCE = pa.schema(
    [
        pa.field("repo_name", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("root", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("expression", pa.string(), nullable=False),
        pa.field("exact", pa.bool_(), nullable=False),
        pa.field("distribution", pa.bool_(), nullable=False),
        pa.field(
            "rank", pa.int32(), nullable=False
        ),  # place of an annotation in its file; the last one counts
        pa.field("patterns", pa.list_(pa.string())),  # form of `globs`, below the root; null covers all
        pa.field("precedence", pa.string(), nullable=False),  # closest, aggregate, override
    ]
)
"""Columns of an evidence table; `root` is the directory whose subtree the evidence covers, "" for all."""

_DISTRIBUTION = re.compile(r"^[^/]+\.(?:dist-info|egg-info)$")
_DECLARES = re.compile(rb"SPDX-(?:License-Identifier|FileCopyrightText)")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One file that speaks for others, and what it says for the directory `root` and all below."""

    repo_name: str
    path: str
    root: str
    kind: EvidenceKind
    expression: str  # SPDX, or UNKNOWN
    exact: bool = False  # the author wrote an SPDX expression
    distribution: bool = False  # lies in a .dist-info or .egg-info folder
    annotations: tuple[Annotation, ...] = ()


def evidence_files(path: str) -> EvidenceKind | None:
    """Say by its name alone whether a file is license evidence for others; cheap, reads nothing.

    >>> evidence_files("a/LICENSE"), evidence_files("a/package.json"), evidence_files("a/license.py")
    ('license', 'package', None)
    """
    folder, _, name = path.rpartition("/")
    if name in METADATA_NAMES:
        return "package"
    if distribution_root(path) is not None and "/licenses/" in path.lower():
        return "license"
    if name == "REUSE.toml" or f"/{path}".endswith(("/.reuse/dep5", "/debian/copyright")):
        return "annotations"
    if "/LICENSES/" in f"/{path}":
        return "text"
    if name.endswith(".license") and name != ".license":
        return "sidecar"
    return "license" if is_license_file(name) and not f"/{folder}/".startswith("/.git/") else None


def directory_evidence(repo_name: str, path: str, data: bytes) -> Evidence | None:
    """Read one evidence file; None when the name or the content is no evidence."""
    kind = evidence_files(path)
    if kind is None:
        return None
    folder = path.rpartition("/")[0]
    if kind == "annotations":
        return _annotations(repo_name, path, data)
    if kind == "text":
        return _named_text(repo_name, path, data)
    if kind == "sidecar" and _DECLARES.search(data):
        return _sidecar(repo_name, path, data)
    installed = distribution_root(path)
    root, distribution = (folder, False) if installed is None else (installed, True)
    if kind == "package":
        declared = metadata_license(path, data)
        if declared is None:
            return None
        return Evidence(repo_name, path, root, kind, declared.expression, declared.exact, distribution)
    if kind == "sidecar" and not is_license_file(path):
        return None
    expression = detect_license(data, path).expression
    if expression == spdx.NONE:
        return None
    return Evidence(repo_name, path, root, "license", expression, distribution=distribution)


def evidence_table(evidence: Iterable[Evidence | None]) -> pa.Table:
    """Put evidence into a table of the schema EVIDENCE, sorted; None is left out."""
    rows = sorted((e for e in evidence if e is not None), key=lambda e: (e.repo_name, e.path))
    return pa.Table.from_pylist([row for e in rows for row in _rows(e)], schema=EVIDENCE)


def _rows(evidence: Evidence) -> Iterator[dict[str, object]]:
    names = ("repo_name", "path", "root", "kind", "expression", "exact", "distribution")
    shared = {name: getattr(evidence, name) for name in names}
    if not evidence.annotations:
        yield {**shared, "rank": 0, "patterns": None, "precedence": "closest"}
    for rank, a in enumerate(evidence.annotations):
        own = {"expression": a.expression, "rank": rank, "patterns": a.patterns, "precedence": a.precedence}
        yield {**shared, **own}


def read_annotations(path: str, data: bytes) -> tuple[Annotation, ...] | None:
    """Read REUSE.toml, `.reuse/dep5` or `debian/copyright`; None for a copyright file in free text."""
    if path.rpartition("/")[2] == "REUSE.toml":
        return read_reuse_toml(data)
    precedence: Precedence = "aggregate" if f"/{path}".endswith("/.reuse/dep5") else "closest"
    return read_dep5(data, precedence)


def annotation_root(path: str) -> str:
    """Return the folder below which a file of annotations speaks."""
    folder = path.rpartition("/")[0]
    return folder if path.rpartition("/")[2] == "REUSE.toml" else folder.rpartition("/")[0]


def distribution_root(path: str) -> str | None:
    """Return the folder that holds the .dist-info or .egg-info folder of the path, or None."""
    parts = path.split("/")
    for i, part in enumerate(parts[:-1]):
        if _DISTRIBUTION.match(part):
            return "/".join(parts[:i])
    return None


def _annotations(repo_name: str, path: str, data: bytes) -> Evidence | None:
    annotations = read_annotations(path, data)
    if annotations is None:
        expression = detect_license(data, path).expression
        folder = path.rpartition("/")[0]
        return None if expression == spdx.NONE else Evidence(repo_name, path, folder, "license", expression)
    if not annotations:
        return None
    root = annotation_root(path)
    return Evidence(repo_name, path, root, "annotations", spdx.NONE, exact=True, annotations=annotations)


def _named_text(repo_name: str, path: str, data: bytes) -> Evidence | None:
    root, _, rest = f"/{path}".rpartition("/LICENSES/")
    name = rest.rpartition("/")[2]
    stem = name if spdx.is_known(name) else name.rpartition(".")[0]
    if "-exception" in stem.lower() or stem.lower().startswith("readme"):
        return None
    expression = spdx.normalize(stem) if spdx.is_known(stem) else detect_license(data, "LICENSE").expression
    return Evidence(repo_name, path, root.removeprefix("/"), "text", expression)


def _sidecar(repo_name: str, path: str, data: bytes) -> Evidence | None:
    expression = detect_license(data, path).expression
    folder, _, name = path.rpartition("/")
    own = Annotation((escape(name.removesuffix(".license")),), expression, "override")
    return Evidence(repo_name, path, folder, "sidecar", spdx.NONE, exact=True, annotations=(own,))
