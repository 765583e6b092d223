"""Writes the notice bundle of a release or a query: who must be named, under which license, in which words.

The folder holds:
 1. `NOTICE.jsonl`: a line for each file: SHA-256 of its content, SWHID, repository, path, expression, the arm
    chosen of it, where that is stated, copyright lines, digests of its license and NOTICE texts;
 2. `licenses/<sha256>.txt`: each license or NOTICE text once, byte for byte as found;
 3. `NOTICE.txt`: the same for people, by repository and license, with the NOTICE texts in full;
 4. `spdx.json`: an SPDX 2.3 document (`spdx_document`).
Files are read once, batch by batch; memory holds a set of copyright lines for each repository and license. Same
rows in the same order give the same bytes, however they are split into batches.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from stack_platform.errors import SchemaError
from stack_platform.licenses import spdx
from stack_platform.licenses.attribution import Attribution, Attributor, LicenseTexts
from stack_platform.licenses.copyrights import merge_copyrights
from stack_platform.licenses.directories import symbols
from stack_platform.licenses.policy import permissive_arm
from stack_platform.licenses.spdx_document import DocumentConfig, DocumentFile, SpdxDocument
from stack_platform.manifests import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa

COLUMNS = (
    "repo_name",
    "path",
    "content_id",
    "blob_id",
    "license_expression",
    "license_source",
    "license_path",
    "license_evidence",
    "content",
)
_RULE = "-" * 78


@dataclass(frozen=True, slots=True)
class NoticeReport:
    """What a bundle holds, for people."""

    files: int
    repositories: int
    license_texts: int  # different texts, NOTICE texts included
    without_text: int  # files whose license text was not found in their repository
    without_copyright: int  # files for which nobody is named
    by_license: dict[str, int] = field(default_factory=dict)  # chosen arm -> files, most first


@dataclass(slots=True)
class _Group:
    """Files of one repository under one license."""

    files: int = 0
    copyrights: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    notices: set[str] = field(default_factory=set)


def write_notices(
    folder: Path,
    files: Iterable[pa.RecordBatch],
    license_texts: LicenseTexts,
    document: DocumentConfig = DocumentConfig(),
) -> NoticeReport:
    """Write the notice bundle of the files into a folder, which is made when it is not there.

    Columns in: COLUMNS, `content` as text or bytes. `license_texts(repo_name, path)` gives the bytes of another
    file of the repository, None when there is none. Raises SchemaError when a column is missing.
    """
    (folder / "licenses").mkdir(parents=True, exist_ok=True)
    bundle = _Bundle(folder, Attributor(license_texts))
    with ExitStack() as stack:
        lines = stack.enter_context((folder / "NOTICE.jsonl").open("w", encoding="utf-8", newline="\n"))
        described = stack.enter_context(SpdxDocument(folder / "spdx.json", document))
        for row in _rows(files):
            bundle.add(row, lines, described)
    bundle.write_text()
    return bundle.report()


def _rows(files: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for batch in files:
        missing = [name for name in COLUMNS if name not in batch.schema.names]
        if missing:
            raise SchemaError(f"files lack the columns {missing}; give judged files with their content")
        yield from batch.select(list(COLUMNS)).to_pylist()


class _Bundle:
    """A bundle being written."""

    def __init__(self, folder: Path, attributor: Attributor) -> None:
        self._folder, self._attributor = folder, attributor
        self._written: set[str] = set()
        self._groups: dict[tuple[str, str], _Group] = {}
        self._without_text = self._without_copyright = 0

    def add(self, row: dict[str, Any], lines: IO[str], document: SpdxDocument) -> None:
        content = row["content"] if row["content"] is not None else ""
        data = content if isinstance(content, bytes) else content.encode("utf-8", errors="replace")
        text = content if isinstance(content, str) else content.decode("utf-8", errors="replace")
        repo, path = row["repo_name"], row["path"]
        evidence = json.loads(row["license_evidence"] or "{}")
        expression = row["license_expression"] or spdx.UNKNOWN
        chosen = evidence.get("chosen") or permissive_arm(expression) or expression
        licenses = tuple(name for name in symbols(chosen) if "exception" not in name.lower())
        places = (row["license_path"], (evidence.get("inherited") or {}).get("path"))
        found = self._attributor.attribute(repo, path, licenses, places, text)
        texts, notices = self._keep(found.texts), self._keep(found.notices)
        sha256 = hashlib.sha256(data).hexdigest()
        entry = {
            "chosen": chosen,
            "content_sha256": sha256,
            "copyrights": found.copyrights,
            "expression": expression,
            "license_path": row["license_path"],
            "license_source": row["license_source"],
            "license_texts": texts,
            "notices": notices,
            "path": path,
            "repo_name": repo,
            "swhid": f"swh:1:cnt:{row['content_id']}",
        }
        lines.write(canonical_json(entry) + "\n")
        in_file = {s for e in evidence.get("statements", ()) for s in symbols(e["expression"])}
        comment = f"Archived as {entry['swhid']}; license expression {expression}."
        sha1 = hashlib.sha1(data).hexdigest()
        document.add(
            DocumentFile(repo, path, sha1, sha256, chosen, tuple(in_file), found.copyrights, comment),
            _texts_of_references(licenses, found),
        )
        self._count(self._groups.setdefault((repo, chosen), _Group()), found, texts, notices)

    def _keep(self, texts: tuple[bytes, ...]) -> list[str]:
        """Write each text once, and name all by their digests."""
        names = []
        for text in texts:
            name = hashlib.sha256(text).hexdigest()
            if name not in self._written:
                self._written.add(name)
                (self._folder / "licenses" / f"{name}.txt").write_bytes(text)
            names.append(name)
        return names

    def _count(self, group: _Group, found: Attribution, texts: list[str], notices: list[str]) -> None:
        group.files += 1
        group.copyrights.update(found.copyrights)
        group.texts.update(texts)
        group.notices.update(notices)
        self._without_text += not texts
        self._without_copyright += not found.copyrights

    def write_text(self) -> None:
        """Write NOTICE.txt."""
        with (self._folder / "NOTICE.txt").open("w", encoding="utf-8", newline="\n") as out:
            out.write("This data set holds source code of others, under the licenses named here.\n")
            out.write("Texts are in the folder licenses, files one by one in NOTICE.jsonl.\n")
            for (repo, chosen), group in sorted(self._groups.items()):
                out.write(f"\n{_RULE}\n{repo}: {group.files} files under {chosen}\n")
                out.writelines(f"  {line}\n" for line in merge_copyrights([group.copyrights]))
                out.writelines(f"  License text: licenses/{name}.txt\n" for name in sorted(group.texts))
                for name in sorted(group.notices):
                    text = (self._folder / "licenses" / f"{name}.txt").read_text("utf-8", errors="replace")
                    out.write(f"\n  NOTICE file (licenses/{name}.txt):\n\n{text.rstrip()}\n")

    def report(self) -> NoticeReport:
        by_license: dict[str, int] = {}
        for (_, chosen), group in self._groups.items():
            by_license[chosen] = by_license.get(chosen, 0) + group.files
        return NoticeReport(
            files=sum(by_license.values()),
            repositories=len({repo for repo, _ in self._groups}),
            license_texts=len(self._written),
            without_text=self._without_text,
            without_copyright=self._without_copyright,
            by_license=dict(sorted(by_license.items(), key=lambda item: (-item[1], item[0]))),
        )


def _texts_of_references(licenses: tuple[str, ...], found: Attribution) -> dict[str, str]:
    text = "\n\n".join(text.decode("utf-8", errors="replace") for text in found.texts)
    return {name: text for name in licenses if name.startswith("LicenseRef-") and text}
