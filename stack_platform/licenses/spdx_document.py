"""Writes an SPDX 2.3 document (JSON) of files and their licenses, one file after the other.

Method: the document describes one package for each repository, and each package contains its files; a file
has its checksums, the license concluded (the chosen arm), the licenses its own words name, and its copyright
lines. Files are written as they come; what belongs after them (packages, relationships, LicenseRefs) follows,
the relationships from a spool file, so memory grows with repositories and license names, not with files.
An identifier that SPDX does not have becomes a LicenseRef, UNKNOWN becomes NOASSERTION. The creation time is
given by the caller, the namespace ends in a digest of the files: same input, same bytes.
Specification: SPDX 2.3, clauses 6 to 11; checked with spdx-tools in a peer test.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

from stack_platform.errors import PolicyError
from stack_platform.licenses import spdx

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SPOOLED = 16 << 20  # bytes of relationships held in memory


@dataclass(frozen=True, slots=True)
class DocumentConfig:
    """What a document says about itself."""

    name: str = "stack-platform selection"
    """Name of the document: of the release or the query."""

    created: str = "1970-01-01T00:00:00Z"
    """Time of creation, UTC, as YYYY-MM-DDThh:mm:ssZ (SPDX 2.3, clause 6.9)."""

    namespace: str = "https://spdx.org/spdxdocs/stack-platform"
    """Start of the document's unique URI; a digest of the files is added (clause 6.5)."""


class DocumentFile(NamedTuple):
    """One file of a document."""

    repo_name: str
    path: str
    sha1: str
    sha256: str | None
    expression: str  # concluded: SPDX, NONE or UNKNOWN
    in_file: tuple[str, ...]  # identifiers that the file itself names
    copyrights: tuple[str, ...]
    comment: str


class SpdxDocument:
    """A document being written; use it in a `with` block and add files."""

    def __init__(self, path: Path, config: DocumentConfig = DocumentConfig()) -> None:
        self._path, self._config = path, config
        self._digest = hashlib.sha256()
        self._packages: dict[str, str] = {}
        self._references: dict[str, str] = {}
        self._files = 0

    def __enter__(self) -> Self:
        """Open the file and write the head of the document."""
        self._out: IO[str] = self._path.open("w", encoding="utf-8", newline="\n")
        self._spool: IO[str] = tempfile.SpooledTemporaryFile(_SPOOLED, "w+", encoding="utf-8", newline="\n")
        head = {
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": self._config.name,
            "creationInfo": {"created": self._config.created, "creators": ["Tool: stack-platform"]},
        }
        self._out.write(_json(head)[:-1] + ',"files":[')
        return self

    def add(self, file: DocumentFile, texts: dict[str, str] | None = None) -> None:
        """Write a file; `texts` holds what is known of the texts of its LicenseRefs."""
        self._files += 1
        name = f"SPDXRef-File-{self._files}"
        checksums = [{"algorithm": "SHA1", "checksumValue": file.sha1}]
        if file.sha256:
            checksums.append({"algorithm": "SHA256", "checksumValue": file.sha256})
        entry = {
            "SPDXID": name,
            "fileName": f"./{file.repo_name}/{file.path}",
            "checksums": checksums,
            "licenseConcluded": self._declare(file.expression, texts or {}),
            "licenseInfoInFiles": self._symbols(file.in_file, texts or {}),
            "copyrightText": "\n".join(file.copyrights) or "NOASSERTION",
            "comment": file.comment,
        }
        text = _json(entry)
        self._digest.update(text.encode("utf-8", errors="replace"))
        self._out.write(("," if self._files > 1 else "") + "\n" + text)
        package = self._packages.setdefault(file.repo_name, f"SPDXRef-Repository-{len(self._packages) + 1}")
        self._spool.write(",\n" + _json(_relationship(package, "CONTAINS", name)))

    def _declare(self, expression: str, texts: dict[str, str]) -> str:
        """Write an expression with identifiers that SPDX knows, and remember its LicenseRefs."""
        if expression in (spdx.NONE, spdx.UNKNOWN):
            return "NONE" if expression == spdx.NONE else "NOASSERTION"
        try:
            tree = spdx.parse(expression)
        except PolicyError:
            return "NOASSERTION"
        return self._render(tree, texts)

    def _render(self, node: Any, texts: dict[str, str]) -> str:
        if not node.isliteral:
            word = f" {node.operator.strip().upper()} "
            return word.join(
                self._render(arg, texts) if arg.isliteral else f"({self._render(arg, texts)})"
                for arg in node.args
            )
        exception = getattr(node, "exception_symbol", None)
        if exception is None:
            return self._symbol(node.key, texts)
        if exception.key in spdx.known_symbols():
            return f"{self._symbol(node.license_symbol.key, texts)} WITH {exception.key}"
        return self._symbol(str(node.render()), texts)

    def _symbol(self, name: str, texts: dict[str, str]) -> str:
        if name.removesuffix("+") in spdx.known_symbols():
            return name
        plain = re.sub(r"[^A-Za-z0-9.\-]+", "-", name.removeprefix("LicenseRef-")).strip("-") or "unnamed"
        reference = f"LicenseRef-{plain}"
        text = texts.get(name) or f"{name}: the text was not found; the files of the notice name the words"
        self._references.setdefault(reference, text)
        return reference

    def _symbols(self, names: Iterable[str], texts: dict[str, str]) -> list[str]:
        written = {self._symbol(name, texts) for name in names if "exception" not in name.lower()}
        return sorted(written) or ["NOASSERTION"]

    def __exit__(self, failure: object, *_: object) -> None:
        """Write what comes after the files."""
        with self._out, self._spool:
            if failure is not None:
                return
            infos = [
                {"licenseId": name, "name": name, "extractedText": text}
                for name, text in sorted(self._references.items())
            ]
            tail = {
                "documentNamespace": f"{self._config.namespace}-{self._digest.hexdigest()}",
                "hasExtractedLicensingInfos": infos,
                "packages": [_package(repo, name) for repo, name in self._packages.items()],
            }
            described = [
                _json(_relationship("SPDXRef-DOCUMENT", "DESCRIBES", name))
                for name in self._packages.values()
            ]
            self._out.write("\n]," + _json(tail)[1:-1] + ',"relationships":[\n' + ",\n".join(described))
            self._spool.seek(0)
            shutil.copyfileobj(self._spool, self._out)
            self._out.write("\n]}\n")


def _package(repo_name: str, name: str) -> dict[str, Any]:
    return {
        "SPDXID": name,
        "name": repo_name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": True,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    }


def _relationship(element: str, kind: str, related: str) -> dict[str, str]:
    return {"spdxElementId": element, "relationshipType": kind, "relatedSpdxElement": related}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
